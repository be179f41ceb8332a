//! Small components that stand inside pages: states, versions, names, commands, dots, times.
//!
//! Each is a template of its own, so it escapes what it is given, and [`HtmlSafe`], so that a page does
//! not escape it a second time.

use askama::Template;
use askama::filters::HtmlSafe;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::format;

macro_rules! html_safe {
    ($($part:ty),*) => { $(impl HtmlSafe for $part {})* };
}
html_safe!(Icon, Mark, Ver, Name, Cmd, Dots, Src, Time, Share, Spark);

/// `#i-…` of the sprite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Template)]
#[template(source = r##"<svg class="i" aria-hidden="true"><use href="#i-{{ self.0 }}"/></svg>"##, ext = "html")]
pub struct Icon(pub &'static str);

/// A state: an icon and a word, never colour alone.
#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(
    source = r#"<span class="state {{ class }}{% if is_pill %} pill{% endif %}">{{ Icon(icon) }}{{ text }}</span>"#,
    ext = "html"
)]
pub struct Mark {
    /// `waiting`, `healthy`, …: a class of the stylesheet.
    pub class: &'static str,
    pub icon: &'static str,
    pub text: String,
    pub is_pill: bool,
}

impl Mark {
    pub fn new(class: &'static str, icon: &'static str, text: impl Into<String>) -> Mark {
        Mark { class, icon, text: text.into(), is_pill: false }
    }

    pub fn pill(self) -> Mark {
        Mark { is_pill: true, ..self }
    }
}

/// A version with its mark: square is current, round is new.
#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(source = r#"<span class="ver{% if is_new %} new{% endif %}">{{ name }}</span>"#, ext = "html")]
pub struct Ver {
    pub name: String,
    pub is_new: bool,
}

/// A path whose head may be cut, never its last segment.
#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(
    source = r#"{% match href %}{% when Some with (href) %}<a class="name" title="{{ path }}" href="{{ href }}">{% when None %}<span class="name" title="{{ path }}">{% endmatch %}<span class="pre">{{ self.halves().0 }}</span><span class="tail">{{ self.halves().1 }}</span>{% if href.is_some() %}</a>{% else %}</span>{% endif %}"#,
    ext = "html"
)]
pub struct Name {
    pub path: String,
    pub href: Option<String>,
}

impl Name {
    fn halves(&self) -> (&str, &str) {
        format::split_name(&self.path)
    }
}

/// A command to copy, with an answer to expect.
#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(
    source = r#"<div class="cmd"><pre><span class="p">$ </span><span class="c"{% match follows %}{% when Some with (follows) %} data-follows="{{ follows }}"{% when None %}{% endmatch %}>{{ command }}</span>{% match output %}{% when Some with (output) %}
<span class="o">{{ output }}</span>{% when None %}{% endmatch %}</pre><button class="btn copy js" type="button">{{ Icon("copy") }}Copy</button></div>"#,
    ext = "html"
)]
pub struct Cmd {
    pub command: String,
    pub output: Option<String>,
    /// Kept in step with the fields of the page's form: `cli` or `curl`.
    pub follows: Option<&'static str>,
}

impl Cmd {
    pub fn new(command: impl Into<String>, output: Option<String>) -> Cmd {
        Cmd { command: command.into(), output, follows: None }
    }
}

/// One mark per endpoint, router or deploy; a bar when there are more than 48.
#[derive(Debug, Clone, Default, PartialEq, Eq, Template)]
#[template(
    source = r#"{% if self.all() > 48 %}<svg class="bar tall c-ok" role="img" aria-label="{{ label }}"><rect width="{{ self.share() }}%" height="100%"/></svg>{% else %}<span class="dots" role="img" aria-label="{{ label }}">{% for class in self.classes() %}<i{% if class != "" %} class="{{ class }}"{% endif %}></i>{% endfor %}</span>{% endif %}"#,
    ext = "html"
)]
pub struct Dots {
    /// `3 healthy, 1 ejected`
    pub label: String,
    pub good: usize,
    pub lagging: usize,
    pub out: usize,
    pub off: usize,
}

impl Dots {
    fn all(&self) -> usize {
        self.good + self.lagging + self.out + self.off
    }

    fn share(&self) -> String {
        format!("{:.1}", 100.0 * self.good as f64 / self.all().max(1) as f64)
    }

    fn classes(&self) -> impl Iterator<Item = &'static str> {
        let some = |class: &'static str, count: usize| std::iter::repeat_n(class, count);
        some("", self.good).chain(some("lag", self.lagging)).chain(some("out", self.out)).chain(some("off", self.off))
    }
}

/// The endpoint behind a card.
#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(
    source = r#"<button class="src" type="button" data-copy="{{ copy }}" title="Copy as curl">{{ path }}</button>"#,
    ext = "html"
)]
pub struct Src {
    pub copy: String,
    pub path: String,
}

/// A share as a bar with its figure.
#[derive(Debug, Clone, PartialEq, Template)]
#[template(
    source = r#"<div class="shr"><svg class="bar {{ class }}" aria-hidden="true"><rect width="{{ self.width() }}%" height="100%"/></svg><span class="num">{{ format::percent(*share) }}</span></div>"#,
    ext = "html"
)]
pub struct Share {
    /// 0 to 1
    pub share: f64,
    /// `c-cur`, `c-new`
    pub class: &'static str,
}

impl Share {
    fn width(&self) -> String {
        width(self.share)
    }
}

/// A share between 0 and 1 as the per cent of an SVG attribute.
pub fn width(share: f64) -> String {
    let percent = if share.is_finite() { share.clamp(0.0, 1.0) * 100.0 } else { 0.0 };
    let text = format!("{percent:.1}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A small chart of fixed size in a table; gaps where nothing was measured.
#[derive(Debug, Clone, PartialEq, Template)]
#[template(source = r#"<span data-spark="{{ self.text() }}" data-cls="c-b1"></span>"#, ext = "html")]
pub struct Spark(pub Vec<Option<f64>>);

impl Spark {
    fn text(&self) -> String {
        let texts = self.0.iter().map(|value| value.map_or_else(String::new, |value| format!("{value:.1}")));
        texts.collect::<Vec<_>>().join(",")
    }
}

/// A moment. Pages show it in the reader's zone; without scripts in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Moment).map_err(serde::de::Error::custom)
    }
}

impl Moment {
    /// `14:05:41`
    pub fn clock(self) -> Time {
        Time { at: self.0, form: "clock", text: self.strftime("%H:%M:%S") }
    }

    /// `14:05:41.003`
    pub fn exact(self) -> Time {
        Time { at: self.0, form: "exact", text: self.strftime("%H:%M:%S%.3f") }
    }

    /// `14:05` today, `Fri 16:40` this week, `18 Nov` before.
    pub fn short(self, now: &Timestamp) -> Time {
        let hours = now.duration_since(self.0).as_hours();
        let is_today = self.strftime("%F") == Moment(*now).strftime("%F");
        let form = match hours {
            _ if is_today => "%H:%M",
            ..144 => "%a %H:%M",
            _ => "%-d %b",
        };
        Time { at: self.0, form: "short", text: self.strftime(form) }
    }

    /// `4 min ago`
    pub fn ago(self, now: &Timestamp) -> String {
        format::ago(self.0, *now)
    }

    /// From here to there, or to now.
    pub fn until(self, end: &Option<Moment>, now: &Timestamp) -> String {
        format::span(end.map_or(*now, |end| end.0).duration_since(self.0))
    }

    /// From here to now.
    pub fn age(self, now: &Timestamp) -> String {
        self.until(&None, now)
    }

    fn strftime(self, form: &str) -> String {
        self.0.strftime(form).to_string()
    }
}

/// A moment as an element.
#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(
    source = r#"<time datetime="{{ self.datetime() }}" data-form="{{ form }}" title="{{ self.title() }}">{{ text }}</time>"#,
    ext = "html"
)]
pub struct Time {
    at: Timestamp,
    form: &'static str,
    text: String,
}

impl Time {
    fn datetime(&self) -> String {
        format!("{:.3}", self.at)
    }

    fn title(&self) -> String {
        Moment(self.at).strftime("%F %T%.3f UTC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_escape_what_they_are_given() {
        let evil = "<b>\"&'";
        let shown = [
            Mark::new("waiting", "wait", evil).to_string(),
            Ver { name: evil.into(), is_new: true }.to_string(),
            Name { path: format!("/svc/{evil}"), href: Some(evil.into()) }.to_string(),
            Cmd::new(evil, Some(evil.into())).to_string(),
            Dots { label: evil.into(), good: 1, ..Dots::default() }.to_string(),
            Src { copy: evil.into(), path: evil.into() }.to_string(),
        ];
        for text in shown {
            assert!(!text.contains("<b>") && !text.contains(&evil[3..]), "{text}");
        }
    }

    #[test]
    fn a_moment_is_shorter_the_longer_ago() {
        let now = "2026-11-26T14:00:00Z".parse::<Timestamp>().unwrap();
        let shown = |text: &str| Moment(text.parse().unwrap()).short(&now).text;
        assert_eq!(shown("2026-11-26T01:02:03Z"), "01:02");
        assert_eq!(shown("2026-11-24T16:40:00Z"), "Tue 16:40");
        assert_eq!(shown("2026-11-01T16:40:00Z"), "1 Nov");
        let exact = Moment("2026-11-26T14:05:41.003Z".parse().unwrap()).exact().to_string();
        assert_eq!(
            exact,
            "<time datetime=\"2026-11-26T14:05:41.003Z\" data-form=\"exact\" title=\"2026-11-26 14:05:41.003 UTC\">\
             14:05:41.003</time>"
        );
    }

    #[test]
    fn many_dots_become_a_bar() {
        let dots = Dots { label: "x".into(), good: 3, lagging: 1, ..Dots::default() };
        assert_eq!(dots.to_string().matches("<i").count(), 4);
        let bar = Dots { good: 98, ..dots }.to_string();
        assert!(bar.contains("<rect width=\"99.0%\"") && !bar.contains("<i"), "{bar}");
    }
}
