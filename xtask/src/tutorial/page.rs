//! A page's blocks of commands, and what they print.
//!
//! A block marked `sh` is run; the block without a mark right behind it is what it prints: each of its lines must
//! come, in this order, and others may stand between them. `…` stands for any text; a line that is only that says
//! nothing. `<!-- test: load -->` and `<!-- test: load ends -->` begin and end the load.

use anyhow::ensure;

#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    Step(Step),
    Load,
    LoadEnds,
}

/// Commands that are run together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub heading: String,
    /// Of the first command, from 1.
    pub line: usize,
    pub commands: String,
    pub expected: Vec<String>,
}

impl Step {
    /// Whether a command may have ended so. A deploy that waits at a gate ends with 4, which is its success.
    pub fn allows(&self, code: i32) -> bool {
        code == 0 || (code == 4 && self.commands.contains("--until gate"))
    }
}

pub fn read(text: &str) -> anyhow::Result<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    let mut heading = String::new();
    // The mark and the lines of the block that is open.
    let mut open: Option<(String, usize, Vec<&str>)> = None;
    // Whether the last thing was a step's block.
    let mut after_step = false;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some((mark, at, lines)), Some("")) => {
                let (mark, at, lines) = (std::mem::take(mark), *at, std::mem::take(lines));
                open = None;
                let expects = mark.is_empty() && after_step;
                after_step = mark == "sh";
                match items.last_mut() {
                    _ if after_step => items.push(Item::Step(Step {
                        heading: heading.clone(),
                        line: at,
                        commands: lines.join("\n"),
                        expected: Vec::new(),
                    })),
                    Some(Item::Step(step)) if expects => step.expected = lines.into_iter().map(str::to_owned).collect(),
                    _ => {}
                }
            }
            (Some((_, _, lines)), _) => lines.push(line),
            (None, Some(mark)) => open = Some((mark.to_owned(), number + 2, Vec::new())),
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    title.clone_into(&mut heading);
                }
                match line.trim() {
                    "<!-- test: load -->" => items.push(Item::Load),
                    "<!-- test: load ends -->" => items.push(Item::LoadEnds),
                    _ => {}
                }
                after_step &= line.trim().is_empty();
            }
        }
    }
    ensure!(open.is_none(), "the last block has no end");
    Ok(items)
}

/// The first line that is expected and does not come.
pub fn differs<'a>(expected: &'a [String], output: &str) -> Option<&'a str> {
    let mut lines = output.lines();
    expected
        .iter()
        .map(String::as_str)
        .filter(|wanted| wanted.trim() != "…")
        .find(|wanted| !lines.any(|line| matches(wanted, line.trim_end())))
}

fn matches(wanted: &str, line: &str) -> bool {
    let mut parts = wanted.trim_end().split('…');
    let Some(rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    let rest = parts.into_iter().try_fold(rest, |rest, part| Some(&rest[rest.find(part)? + part.len()..]));
    rest.is_some_and(|rest| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_what_they_print() {
        let text = "## One\n```sh\na\nb\n```\n```\nx\n```\n<!-- test: load -->\n```console\nno\n```\ntext\n```\nno\n```\n```sh\nc\n```\ntext\n```\nno\n```\n<!-- test: load ends -->\n";
        let step = |line, commands: &str, expected: &[&str]| {
            Item::Step(Step {
                heading: "One".into(),
                line,
                commands: commands.into(),
                expected: expected.iter().map(|line| (*line).to_owned()).collect(),
            })
        };
        assert_eq!(read(text).unwrap(), [step(3, "a\nb", &["x"]), Item::Load, step(18, "c", &[]), Item::LoadEnds]);
        assert!(read("```sh\na").is_err());
    }

    #[test]
    fn lines_come_in_order_and_dots_stand_for_anything() {
        let check = |expected: &[&str], output: &str, missing: Option<&str>| {
            let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(differs(&expected, output), missing, "{output}");
        };
        check(&["a", "…", "c"], "a\nb\nc\n", None);
        check(&["c", "a"], "a\nc\n", Some("a"));
        check(&["Hello (…) world (…)!!"], "Hello (1) world (2)!!", None);
        check(&["Hello (…) world (…)!!"], "Hello (1) universe (2)!!", Some("Hello (…) world (…)!!"));
        check(&["a"], "ab", Some("a"));
        check(&["a…"], "ab", None);
        check(&["…b…b"], "ab", Some("…b…b"));
    }

    #[test]
    fn only_a_gate_excuses_exit_code_4() {
        let step = |commands: &str| Step { commands: commands.into(), ..Step::default() };
        assert!(step("deploy start x --until gate").allows(4) && step("true").allows(0));
        assert!(!step("deploy start x --wait").allows(4) && !step("deploy start --until gate").allows(3));
    }
}
