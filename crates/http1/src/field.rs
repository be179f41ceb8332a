//! Header fields as places in the read buffer.

use crate::known::{Known, KnownSet};

/// Part of the slice that a head was parsed from. Offsets stay true when the bytes move, as long
/// as the slice given to accessors starts where the parsed one started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }

    /// The bytes; empty if `buffer` is not the one that was parsed.
    #[inline]
    #[must_use]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    name_start: u32,
    name_len: u16,
    /// What the name means.
    pub known: Known,
    dropped: bool,
    value: Span,
}

impl Field {
    pub(crate) fn new(name: Span, known: Known, value: Span) -> Field {
        Field { name_start: name.start, name_len: name.len() as u16, known, dropped: false, value }
    }

    /// The name as it was sent.
    #[inline]
    #[must_use]
    pub fn name(self, buffer: &[u8]) -> &[u8] {
        Span { start: self.name_start, end: self.name_start + u32::from(self.name_len) }.of(buffer)
    }

    /// The value without surrounding blanks.
    #[inline]
    #[must_use]
    pub fn value(self, buffer: &[u8]) -> &[u8] {
        self.value.of(buffer)
    }

    /// Where the value is.
    #[inline]
    pub(crate) fn place(self) -> Span {
        self.value
    }

    /// Whether this line is left out when the head is written: the caller dropped it, or the
    /// Connection field nominated it.
    #[inline]
    #[must_use]
    pub fn is_dropped(self) -> bool {
        self.dropped
    }

    /// Leaves this line out when the head is written.
    #[inline]
    pub fn drop_line(&mut self) {
        self.dropped = true;
    }

    #[inline]
    pub(crate) fn line_start(self) -> usize {
        self.name_start as usize
    }
}

/// The header lines of one head, in order.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub(crate) list: Vec<Field>,
    pub(crate) present: KnownSet,
    /// Offset of the empty line that ends the head.
    pub(crate) end: usize,
}

impl Fields {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.present = KnownSet::NONE;
        self.end = 0;
    }

    /// All lines, dropped ones included.
    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.list.iter()
    }

    /// All lines, to drop some.
    #[inline]
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Field> {
        self.list.iter_mut()
    }

    /// The known names present.
    #[inline]
    #[must_use]
    pub fn present(&self) -> KnownSet {
        self.present
    }

    /// The first value of a known name.
    #[must_use]
    pub fn first<'b>(&self, buffer: &'b [u8], name: Known) -> Option<&'b [u8]> {
        self.all(buffer, name).next()
    }

    /// Every value of a known name, in order.
    pub fn all<'b>(&self, buffer: &'b [u8], name: Known) -> impl Iterator<Item = &'b [u8]> {
        let list: &[Field] = if self.present.has(name) { &self.list } else { &[] };
        list.iter().filter(move |field| field.known == name).map(|field| field.value(buffer))
    }

    /// Every value of any name, compared without case. For names that have no [`Known`].
    pub fn named<'b>(&self, buffer: &'b [u8], name: &str) -> impl Iterator<Item = &'b [u8]> {
        let list = self.list.iter();
        let hits = list.filter(move |field| field.name(buffer).eq_ignore_ascii_case(name.as_bytes()));
        hits.map(|field| field.value(buffer))
    }

    /// Copies the lines that stay, in order, in runs as long as possible. `from` is where a run is
    /// already open: the start of an initial line that is kept as it is.
    pub(crate) fn copy(&self, buffer: &[u8], from: Option<usize>, remove: KnownSet, out: &mut Vec<u8>) {
        let mut run = from;
        for field in &self.list {
            let goes = field.dropped || remove.has(field.known);
            match (goes, run) {
                (true, Some(start)) => {
                    out.extend_from_slice(Span::new(start, field.line_start()).of(buffer));
                    run = None;
                }
                (false, None) => run = Some(field.line_start()),
                _ => {}
            }
        }
        if let Some(start) = run {
            out.extend_from_slice(Span::new(start, self.end).of(buffer));
        }
    }
}
