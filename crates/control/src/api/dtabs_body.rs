//! Dtabs in bodies: the two media types, read and shown.

use axum::http::{HeaderMap, header};
use names::{Dentry, Dtab, NameTree, Path, Prefix};
use serde::{Deserialize, Serialize};

use super::body::Object;

/// What a dtab is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    /// `application/dtab`
    Dtab,
    /// `text/plain`, in the same form.
    Plain,
}

/// Whether weights have the original's two decimals or every digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digits {
    Two,
    Every,
}

impl Media {
    fn read(text: &str) -> Option<Media> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        let known = [Media::Json, Media::Dtab, Media::Plain];
        known.into_iter().find(|media| media.name().eq_ignore_ascii_case(essence))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Dtab => "application/dtab",
            Media::Plain => "text/plain",
        }
    }

    /// The first type in `Accept` that is known; JSON where there is none.
    pub(super) fn accepted(headers: &HeaderMap) -> Media {
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(|line| line.split(',')).find_map(Media::read).unwrap_or(Media::Json)
    }

    /// What `Content-Type` says; the error is what it says instead.
    pub(super) fn sent(headers: &HeaderMap) -> Result<Media, String> {
        let text = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let text = text.unwrap_or_default();
        Media::read(&text).ok_or_else(|| text.into_owned())
    }
}

#[derive(Serialize)]
struct Shown {
    prefix: String,
    dst: String,
}

/// An entry as it may be sent: `null` and missing fields are told apart from other mistakes by the original.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    dst: Option<String>,
}

/// Without the line feed that follows it.
pub(super) fn show(dtab: &Dtab, media: Media, digits: Digits) -> String {
    if media != Media::Json {
        return match digits {
            Digits::Two => dtab.to_string(),
            Digits::Every => dtab.show_exact(),
        };
    }
    let entries: Vec<Shown> = dtab
        .entries()
        .iter()
        .map(|entry| Shown {
            prefix: entry.prefix.to_string(),
            dst: match digits {
                Digits::Two => entry.dst.to_string(),
                Digits::Every => entry.dst.show_exact(),
            },
        })
        .collect();
    naming::json::text(&entries)
}

/// The error is a 400's text.
pub(super) fn read(media: Media, body: &[u8]) -> Result<Dtab, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8".to_owned())?;
    if media != Media::Json {
        return Dtab::read(text).map_err(|error| error.to_string());
    }
    let sent: Vec<Option<Object<Sent>>> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let invalid = || format!("The dtab contains invalid dentries: {text}");
    let entry = |sent: Option<Object<Sent>>| {
        let Some(Object(Sent { prefix: Some(prefix), dst: Some(dst) })) = sent else { return Err(invalid()) };
        let prefix = Prefix::read(&prefix).map_err(|error| format!("prefix `{prefix}`: {error}"))?;
        let dst = NameTree::<Path>::read(&dst).map_err(|error| format!("dst `{dst}`: {error}"))?;
        Ok(Dentry { prefix, dst })
    };
    Ok(Dtab::new(sent.into_iter().map(entry).collect::<Result<_, _>>()?))
}
