//! JSON as Go's encoder writes it: compact, and with `&`, `<`, `>` escaped. Scripts compare it.

use super::remote::{Entry, VersionedDtab};

/// One string with its quotes.
pub fn string(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 2);
    result.push('"');
    for c in text.chars() {
        match c {
            '"' => result.push_str("\\\""),
            '\\' => result.push_str("\\\\"),
            '\n' => result.push_str("\\n"),
            '\r' => result.push_str("\\r"),
            '\t' => result.push_str("\\t"),
            c if c < ' ' || matches!(c, '&' | '<' | '>' | '\u{2028}' | '\u{2029}') => {
                result.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => result.push(c),
        }
    }
    result.push('"');
    result
}

/// `["a","b"]`
pub fn strings(texts: &[String]) -> String {
    let items: Vec<String> = texts.iter().map(|text| string(text)).collect();
    format!("[{}]", items.join(","))
}

/// `[{"prefix":"/a","dst":"/b"}]`
pub fn entries(entries: &[Entry]) -> String {
    let items: Vec<String> = entries
        .iter()
        .map(|entry| format!("{{\"prefix\":{},\"dst\":{}}}", string(&entry.prefix), string(&entry.dst)))
        .collect();
    format!("[{}]", items.join(","))
}

/// `{"version":"…","dtab":[…]}`
pub fn versioned(dtab: &VersionedDtab) -> String {
    format!("{{\"version\":{},\"dtab\":{}}}", string(&dtab.version), entries(&dtab.dtab))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_characters_are_escaped() {
        assert_eq!(string("a&<>\"\\\n\u{1}é\u{2028}"), "\"a\\u0026\\u003c\\u003e\\\"\\\\\\n\\u0001é\\u2028\"");
    }
}
