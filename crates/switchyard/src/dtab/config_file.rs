//! `.namerctl.*`: the one key `base-url`, from the nearest of this directory and those above it.

use std::path::Path;

use anyhow::Context;

const ENDINGS: &[&str] = &["json", "toml", "yaml", "yml", "properties", "props", "prop", "hcl"];

/// The value of the first file found, if it has the key.
pub fn base_url() -> anyhow::Result<Option<String>> {
    let here = std::env::current_dir().context("cannot tell the current directory")?;
    for directory in here.ancestors() {
        for ending in ENDINGS {
            let file = directory.join(format!(".namerctl.{ending}"));
            match std::fs::read_to_string(&file) {
                Ok(text) => {
                    return value(&text, ending).with_context(|| format!("{}", file.display()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| Path::display(&file).to_string()),
            }
        }
    }
    Ok(None)
}

/// What a text of this format says.
pub(super) fn value(text: &str, ending: &str) -> anyhow::Result<Option<String>> {
    if matches!(ending, "json" | "yaml" | "yml") {
        let map: Option<std::collections::BTreeMap<String, serde_json::Value>> = serde_saphyr::from_str(text)?;
        let found = map.into_iter().flatten().find(|(key, _)| key.eq_ignore_ascii_case("base-url"));
        return Ok(found.and_then(|(_, value)| value.as_str().map(str::to_owned)));
    }
    // TOML, HCL and properties agree on `key = value` where the value is a plain string.
    Ok(text.lines().find_map(|line| {
        let (key, value) = line.split_once(['=', ':'])?;
        let unquote = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
        unquote(key).eq_ignore_ascii_case("base-url").then(|| unquote(value))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_gives_the_url() {
        let cases = [
            ("json", r#"{"base-url": "http://a:1"}"#),
            ("yaml", "other: 1\nbase-url: http://a:1\n"),
            ("toml", "# x\nbase-url = \"http://a:1\"\n"),
            ("properties", "base-url=http://a:1"),
            ("hcl", "\"base-url\" = \"http://a:1\""),
        ];
        for (ending, text) in cases {
            assert_eq!(value(text, ending).unwrap().as_deref(), Some("http://a:1"), "{ending}");
        }
    }
}
