//! Path patterns with captures: `/foo/*/{host}:{port}`, as `io.l5d.rewrite` and per-prefix client configs use them.

use std::collections::BTreeMap;

use crate::Path;

/// Matches the beginning of a path. Segments: `*` is any one label; plain text equals the shown label;
/// with captures, `{key}` takes as much as it can of the shown label, and the pattern may stand
/// anywhere in it (`{a}.com` also matches `foo.com.au`), as the original does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMatcher {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Any,
    Text(String),
    /// Text before the first capture; then each key with the text behind it.
    Captures(String, Vec<(String, String)>),
}

impl PathMatcher {
    /// Never fails: what is no capture is text. A leading `/` is optional, and one at the end counts for nothing.
    pub fn new(pattern: &str) -> PathMatcher {
        let segments = pattern.trim_end_matches('/').split('/').skip_while(|segment| segment.is_empty());
        PathMatcher { segments: segments.map(Segment::new).collect() }
    }

    /// What the captures stand for, or `None` where the path does not begin like this. A `*` or
    /// a text behind the end of the path does not match.
    pub fn captures(&self, path: &Path) -> Option<BTreeMap<String, String>> {
        if path.len() < self.segments.len() {
            return None;
        }
        let mut captures = BTreeMap::new();
        for (segment, label) in self.segments.iter().zip(path.labels()) {
            let shown = Path::from_nonempty(vec![label.clone()]).show();
            segment.capture(shown.trim_start_matches('/'), &mut captures)?;
        }
        Some(captures)
    }

    /// The keys of its captures.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let captures = self.segments.iter().filter_map(|segment| match segment {
            Segment::Captures(_, captures) => Some(captures),
            Segment::Any | Segment::Text(_) => None,
        });
        captures.flatten().map(|(key, _)| key.as_str())
    }

    /// `template` with each `{key}` replaced by its capture; keys without a capture stay.
    pub fn substitute(template: &str, captures: &BTreeMap<String, String>) -> String {
        captures.iter().fold(template.to_owned(), |text, (key, value)| text.replace(&format!("{{{key}}}"), value))
    }
}

impl Segment {
    fn new(text: &str) -> Segment {
        if text == "*" {
            return Segment::Any;
        }
        let Some((before, mut key, mut rest)) = next_capture(text) else { return Segment::Text(text.to_owned()) };
        let mut captures = Vec::new();
        while let Some((between, next, after)) = next_capture(rest) {
            captures.push((key.to_owned(), between.to_owned()));
            (key, rest) = (next, after);
        }
        captures.push((key.to_owned(), rest.to_owned()));
        Segment::Captures(before.to_owned(), captures)
    }

    fn capture(&self, label: &str, into: &mut BTreeMap<String, String>) -> Option<()> {
        match self {
            Segment::Any => Some(()),
            Segment::Text(text) => (text == label).then_some(()),
            Segment::Captures(before, captures) => {
                let start = label.find(before)? + before.len();
                // Greedy from the left is the same as each text as far right as the ones behind it allow;
                // only the last capture, where no text is behind it, reaches to the end.
                let mut end = label.len();
                let mut values = Vec::with_capacity(captures.len());
                for (key, text) in captures.iter().rev() {
                    let at = start + label.get(start..end)?.rfind(text.as_str())?;
                    values.push((key, at, at + text.len()));
                    end = at;
                }
                let mut from = start;
                for (key, to, next) in values.into_iter().rev() {
                    into.insert(key.clone(), label[from..to].to_owned());
                    from = next;
                }
                Some(())
            }
        }
    }
}

/// Splits at the first `{key}`: text before it, key, text behind it.
fn next_capture(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices('{').find_map(|(open, _)| {
        let inside = &text[open + 1..];
        let length = inside.find(|c| !is_key_char(c))?;
        let closed = length > 0 && inside[length..].starts_with('}');
        closed.then(|| (&text[..open], &inside[..length], &inside[length + 1..]))
    })
}

/// No hyphen: the original takes `{a-b}` as text.
fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || ".:;<=>?@[\\]^_".contains(c)
}
