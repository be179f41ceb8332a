//! JSON inside `<script type="application/json">`, for the charts.

use std::fmt;

use askama::filters::HtmlSafe;
use serde_json::Value;

/// Written so that no text in it can end the script element or begin a comment.
#[derive(Debug, Clone, Default)]
pub struct Data(pub Value);

impl HtmlSafe for Data {}

impl fmt::Display for Data {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_null() {
            return out.write_str("{}");
        }
        // In JSON these three stand only in texts, where the escape means the same.
        for piece in self.0.to_string().split_inclusive(['<', '>', '&']) {
            let Some(last) = piece.chars().next_back().filter(|last| "<>&".contains(*last)) else {
                out.write_str(piece)?;
                continue;
            };
            out.write_str(&piece[..piece.len() - 1])?;
            write!(out, "\\u{:04x}", u32::from(last))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_text_ends_the_script() {
        let value = json!({ "a": "</script><!-- & 'x'" });
        let shown = Data(value.clone()).to_string();
        assert!(!shown.contains(['<', '>', '&']), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        assert_eq!(Data::default().to_string(), "{}");
    }
}
