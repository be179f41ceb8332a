//! Bounds on heads. Body bounds (chunk line, trailers) are constants in [`crate::Body`]'s module,
//! because nobody tunes them.

/// The largest head that is read. Exceeding `line` is 414, the others 431; in a response all are a
/// bad gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request or status line without its CRLF.
    pub line: usize,
    /// Bytes of all header lines together, their CRLFs included.
    pub headers: usize,
}

impl Limits {
    /// Linkerd 1's `maxInitialLineKB` and `maxHeadersKB`.
    pub const REQUEST: Limits = Limits { line: 4 * 1024, headers: 8 * 1024 };
    /// Answers come from servers we chose, whose cookies and policies grow long.
    pub const RESPONSE: Limits = Limits { line: 4 * 1024, headers: 64 * 1024 };
    /// Header lines per head: the size of the parser's table on the stack.
    pub const COUNT: usize = 128;

    /// The longest prefix of a message that can still be a legal head.
    #[must_use]
    pub const fn head(&self) -> usize {
        self.line + self.headers + 4
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::REQUEST
    }
}
