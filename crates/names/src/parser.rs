//! The one recursive-descent reader behind paths, trees and dtabs, with the original's error texts.

use std::sync::Arc;

use crate::{Dentry, Elem, Label, NameTree, ParseError, Path, Prefix, Weighted};

/// Parentheses may nest this deep; deeper input is refused instead of exhausting the stack.
const MAX_NESTING: usize = 200;

/// Reads one input from left to right, one character ahead.
pub(crate) struct Parser<'a> {
    text: &'a str,
    at: usize,
    nesting: usize,
}

pub(crate) fn is_showable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'.' | b'#' | b'$' | b'%' | b'-')
}

/// What `Character.isWhitespace` of Java accepts.
fn is_java_whitespace(c: char) -> bool {
    match c {
        '\t'..='\r' | '\u{1c}'..='\u{1f}' | ' ' => true,
        '\u{a0}' | '\u{2007}' | '\u{202f}' | '\u{85}' => false,
        other => other.is_whitespace(),
    }
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str) -> Parser<'a> {
        Parser { text, at: 0, nesting: 0 }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) {
        if let Some(c) = self.peek() {
            self.at += c.len_utf8();
        }
    }

    fn expected<T>(&self, what: &str) -> Result<T, ParseError> {
        let (before, after) = self.text.split_at(self.at);
        let message = match self.peek() {
            Some(c) => format!("{what} expected but '{c}' found at '{before}[{c}]{}'", &after[c.len_utf8()..]),
            None => format!("{what} expected but end of input found at '{before}[]'"),
        };
        Err(ParseError { message })
    }

    fn eat(&mut self, c: char) -> Result<(), ParseError> {
        if self.peek() != Some(c) {
            return self.expected(&format!("'{c}'"));
        }
        self.bump();
        Ok(())
    }

    fn maybe_eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.bump();
        }
        found
    }

    /// Blanks, and comments from `#` to the end of the line.
    fn blanks(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' {
                self.at += self.text[self.at..].find('\n').unwrap_or(self.text.len() - self.at);
            } else if is_java_whitespace(c) {
                self.bump();
            } else {
                return;
            }
        }
    }

    fn end(&mut self) -> Result<(), ParseError> {
        self.blanks();
        if self.peek().is_some() { self.expected("end of input") } else { Ok(()) }
    }

    fn starts_label(&self) -> bool {
        self.peek().is_some_and(|c| c == '\\' || (c.is_ascii() && is_showable(c as u8)))
    }

    fn hex(&mut self) -> Result<u8, ParseError> {
        match self.peek().and_then(|c| c.to_digit(16)) {
            Some(digit) => {
                self.bump();
                Ok(digit as u8)
            }
            None => self.expected("hex char"),
        }
    }

    fn label(&mut self) -> Result<Label, ParseError> {
        if !self.starts_label() {
            return self.expected("label char");
        }
        let mut bytes = Vec::new();
        while self.starts_label() {
            if self.maybe_eat('\\') {
                self.eat('x')?;
                bytes.push(self.hex()? * 16 + self.hex()?);
            } else {
                bytes.push(self.text.as_bytes()[self.at]);
                self.at += 1;
            }
        }
        Ok(Arc::from(bytes))
    }

    /// A path without the blanks around it.
    fn bare_path(&mut self) -> Result<Path, ParseError> {
        self.eat('/')?;
        let mut labels = Vec::new();
        if self.starts_label() {
            labels.push(self.label()?);
            while self.maybe_eat('/') {
                labels.push(self.label()?);
            }
        }
        Ok(Path::from_nonempty(labels))
    }

    pub(crate) fn path(mut self) -> Result<Path, ParseError> {
        self.blanks();
        let path = self.bare_path()?;
        self.end()?;
        Ok(path)
    }

    fn bare_prefix(&mut self) -> Result<Prefix, ParseError> {
        self.blanks();
        self.eat('/')?;
        let mut elems = Vec::new();
        if self.peek() == Some('*') || self.starts_label() {
            elems.push(self.elem()?);
            while self.maybe_eat('/') {
                elems.push(self.elem()?);
            }
        }
        Ok(Prefix::new(elems))
    }

    fn elem(&mut self) -> Result<Elem, ParseError> {
        if self.maybe_eat('*') { Ok(Elem::Any) } else { self.label().map(Elem::Label) }
    }

    pub(crate) fn prefix(mut self) -> Result<Prefix, ParseError> {
        let prefix = self.bare_prefix()?;
        self.end()?;
        Ok(prefix)
    }

    pub(crate) fn tree(mut self) -> Result<NameTree<Path>, ParseError> {
        let tree = self.alternates()?;
        self.end()?;
        Ok(tree)
    }

    fn alternates(&mut self) -> Result<NameTree<Path>, ParseError> {
        let mut trees = vec![self.union()?];
        self.blanks();
        while self.maybe_eat('|') {
            trees.push(self.union()?);
            self.blanks();
        }
        Ok(only(&mut trees).unwrap_or(NameTree::Alt(trees)))
    }

    fn union(&mut self) -> Result<NameTree<Path>, ParseError> {
        let mut branches = vec![self.weighted()?];
        self.blanks();
        while self.maybe_eat('&') {
            branches.push(self.weighted()?);
            self.blanks();
        }
        Ok(only(&mut branches).map(|branch| branch.tree).unwrap_or(NameTree::Union(branches)))
    }

    fn weighted(&mut self) -> Result<Weighted<Path>, ParseError> {
        self.blanks();
        let weight = match self.peek() {
            Some('0'..='9' | '.') => {
                let weight = self.weight()?;
                self.blanks();
                self.eat('*')?;
                self.blanks();
                weight
            }
            _ => 1.0,
        };
        Ok(Weighted { weight, tree: self.simple()? })
    }

    fn weight(&mut self) -> Result<f64, ParseError> {
        let start = self.at;
        let mut dots = 0;
        while let Some(c @ ('0'..='9' | '.')) = self.peek() {
            dots += usize::from(c == '.');
            if dots > 1 {
                return self.expected("number char");
            }
            self.bump();
        }
        match self.text[start..self.at].parse() {
            Ok(weight) if f64::is_finite(weight) => Ok(weight),
            // The original marks the place behind the number but names the number itself.
            _ => {
                let (before, after) = self.text.split_at(self.at);
                let marked = self.peek().map_or(0, char::len_utf8);
                let found = &self.text[start..self.at];
                Err(ParseError {
                    message: format!(
                        "weight expected but '{found}' found at '{before}[{}]{}'",
                        &after[..marked],
                        &after[marked..]
                    ),
                })
            }
        }
    }

    fn simple(&mut self) -> Result<NameTree<Path>, ParseError> {
        let end = match self.peek() {
            Some('(') => return self.parenthesised(),
            Some('/') => return self.bare_path().map(NameTree::Leaf),
            Some('!') => NameTree::Fail,
            Some('~') => NameTree::Neg,
            Some('$') => NameTree::Empty,
            _ => return self.expected("simple"),
        };
        self.bump();
        Ok(end)
    }

    fn parenthesised(&mut self) -> Result<NameTree<Path>, ParseError> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return self.expected(&format!("at most {MAX_NESTING} nested parentheses"));
        }
        self.bump();
        let tree = self.alternates()?;
        self.blanks();
        self.eat(')')?;
        self.nesting -= 1;
        Ok(tree)
    }

    fn bare_dentry(&mut self) -> Result<Dentry, ParseError> {
        let prefix = self.bare_prefix()?;
        self.blanks();
        self.eat('=')?;
        self.eat('>')?;
        let dst = self.alternates()?;
        Ok(Dentry { prefix, dst })
    }

    pub(crate) fn dentry(mut self) -> Result<Dentry, ParseError> {
        let dentry = self.bare_dentry()?;
        self.end()?;
        Ok(dentry)
    }

    pub(crate) fn dtab(mut self) -> Result<Vec<Dentry>, ParseError> {
        let mut entries = Vec::new();
        loop {
            self.blanks();
            if self.peek().is_none() {
                return Ok(entries);
            }
            entries.push(self.bare_dentry()?);
            self.blanks();
            if !self.maybe_eat(';') {
                self.end()?;
                return Ok(entries);
            }
        }
    }
}

fn only<T>(items: &mut Vec<T>) -> Option<T> {
    if items.len() == 1 { items.pop() } else { None }
}
