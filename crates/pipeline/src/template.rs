//! Texts with placeholders: `{name}` is a value, `{{` and `}}` are braces.
//!
//! Filled in one pass: a value that looks like a placeholder stays what it is.

use std::collections::BTreeMap;

/// What is known when a text is filled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(BTreeMap<String, String>);

/// Why a text cannot be read or filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("{text:?}: `{{` begins a placeholder such as {{text}}; write `{{{{` for a brace itself")]
    Open { text: String },
    #[error("{text:?}: `}}` ends nothing; write `}}}}` for a brace itself")]
    Close { text: String },
    #[error("{{{name}}} is not known here")]
    Unknown { name: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Value(&'a str),
}

impl Values {
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub fn with(&self, more: &[(&str, &str)]) -> Values {
        let mut values = self.clone();
        more.iter().for_each(|(name, value)| values.set(name, *value));
        values
    }

    fn get(&self, name: &str) -> Result<&str, TemplateError> {
        self.0.get(name).map(String::as_str).ok_or_else(|| TemplateError::Unknown { name: name.to_owned() })
    }

    pub fn fill(&self, template: &str) -> Result<String, TemplateError> {
        pieces(template)?.into_iter().try_fold(String::new(), |filled, piece| {
            Ok(filled
                + match piece {
                    Piece::Text(text) => text,
                    Piece::Value(name) => self.get(name)?,
                })
        })
    }

    /// Fills a text in which the kubelet expands `$(NAME)`: a dollar of a value stays one.
    pub fn fill_expanded(&self, template: &str) -> Result<String, TemplateError> {
        let mut filled = String::new();
        for piece in pieces(template)? {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Value(name) => {
                    // A single dollar before a value must not meet a parenthesis of it.
                    let dollars = filled.chars().rev().take_while(|character| *character == '$').count();
                    if dollars % 2 == 1 {
                        filled.push('$');
                    }
                    filled.push_str(&self.get(name)?.replace('$', "$$"));
                }
            }
        }
        Ok(filled)
    }

    /// Fills a command for a shell: a value is one word, or part of one, whatever is in it.
    pub fn fill_command(&self, template: &str) -> Result<String, TemplateError> {
        let mut filled = String::new();
        let mut quoting = Quoting::None;
        for piece in pieces(template)? {
            match piece {
                Piece::Text(text) => {
                    quoting = quoting.after(text);
                    filled.push_str(text);
                }
                Piece::Value(name) => filled.push_str(&quoting.quote(self.get(name)?)),
            }
        }
        Ok(filled)
    }
}

/// Names of the placeholders of a text.
pub(crate) fn names(template: &str) -> Result<Vec<&str>, TemplateError> {
    let names = pieces(template)?.into_iter().filter_map(|piece| match piece {
        Piece::Value(name) => Some(name),
        Piece::Text(_) => None,
    });
    Ok(names.collect())
}

/// Whether a parameter may be called this.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn pieces(template: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        if brace.starts_with("{{") || brace.starts_with("}}") {
            pieces.push(Piece::Text(&rest[..=at]));
            rest = &brace[2..];
            continue;
        }
        pieces.push(Piece::Text(before));
        if brace.starts_with('}') {
            return Err(TemplateError::Close { text: template.to_owned() });
        }
        let open = || TemplateError::Open { text: template.to_owned() };
        let end = brace.find('}').ok_or_else(open)?;
        let name = &brace[1..end];
        if !is_name(name) {
            return Err(open());
        }
        pieces.push(Piece::Value(name));
        rest = &brace[end + 1..];
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Where in a shell's line a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    None,
    Single,
    Double,
}

impl Quoting {
    fn after(mut self, text: &str) -> Quoting {
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            self = match (self, character) {
                (Quoting::None, '\'') => Quoting::Single,
                (Quoting::None, '"') => Quoting::Double,
                (Quoting::Single, '\'') | (Quoting::Double, '"') => Quoting::None,
                (Quoting::None | Quoting::Double, '\\') => {
                    characters.next();
                    self
                }
                (same, _) => same,
            }
        }
        self
    }

    fn quote(self, value: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
        match self {
            Quoting::Single => value.replace('\'', r"'\''"),
            Quoting::Double => value.chars().fold(String::new(), |mut text, character| {
                if "\\\"$`".contains(character) {
                    text.push('\\');
                }
                text.push(character);
                text
            }),
            Quoting::None if !value.is_empty() && value.chars().all(plain) => value.to_owned(),
            Quoting::None => format!("'{}'", value.replace('\'', r"'\''")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        let mut values = Values::default();
        values.set("text", "{port} it's \"$x\"");
        values.set("port", "80");
        values
    }

    fn check(template: &str, expected: Result<&str, &str>) {
        let found = values().fill(template).map_err(|error| error.to_string());
        match expected {
            Ok(text) => assert_eq!(found.as_deref(), Ok(text), "{template}"),
            Err(part) => assert!(found.clone().is_err_and(|text| text.contains(part)), "{template}: {found:?}"),
        }
    }

    #[test]
    fn texts_are_filled_in_one_pass() {
        check("", Ok(""));
        check("a{port}b", Ok("a80b"));
        check("{text}", Ok("{port} it's \"$x\""));
        check("{{port}} }}{port}", Ok("{port} }80"));
        check("{{{port}}}", Ok("{80}"));
        check("ü{port}ü", Ok("ü80ü"));
        check("{nonsense}", Err("{nonsense} is not known here"));
        check("{", Err("write `{{`"));
        check("{port", Err("write `{{`"));
        check("{}", Err("write `{{`"));
        check("{a b}", Err("write `{{`"));
        check("a}", Err("write `}}`"));
    }

    #[test]
    fn a_value_in_a_command_is_never_more_than_a_part_of_a_word() {
        let values = values();
        for template in ["printf %s {text}", "printf %s '{text}'", "printf %s \"{text}\"", "printf %s a\\'{text}"] {
            let command = values.fill_command(template).unwrap();
            let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            let wanted = if template.contains("a\\'") { "a'{port} it's \"$x\"" } else { "{port} it's \"$x\"" };
            assert_eq!(printed, wanted, "{command}");
        }
        assert_eq!(values.fill_command("curl http://a:{port}").unwrap(), "curl http://a:80");
    }
}
