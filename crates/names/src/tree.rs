//! Name trees: alternates, weighted unions, leaves, and the three ends `~`, `!`, `$`.

use std::fmt;

use crate::{ParseError, Path};

/// A tree over leaves of type `T`; what a dtab entry rewrites to (`T = Path`), or what a name is bound to.
#[derive(Clone, PartialEq, Debug)]
pub enum NameTree<T> {
    /// Tried in order; the first that is not `Neg` is the answer.
    Alt(Vec<NameTree<T>>),
    /// One is drawn per request, by weight.
    Union(Vec<Weighted<T>>),
    Leaf(T),
    /// `~`: no such name, try the next alternative.
    Neg,
    /// `!`: no such name, and no alternative either.
    Fail,
    /// `$`: the name exists and has no endpoints.
    Empty,
}

/// A branch of a union. The weight is finite, not negative, and kept in full precision.
#[derive(Clone, PartialEq, Debug)]
pub struct Weighted<T> {
    pub weight: f64,
    pub tree: NameTree<T>,
}

impl<T> NameTree<T> {
    /// The same tree with each leaf replaced.
    pub fn map<U>(&self, _f: &mut impl FnMut(&T) -> U) -> NameTree<U> { unimplemented!() }
    /// Evaluation-equivalent and as small as the original makes it.
    pub fn simplified(&self) -> NameTree<T> where T: Clone { unimplemented!() }
    /// `None` for Fail and Neg, else the leaves that can answer (none for Empty), without duplicates, in order.
    pub fn eval(&self) -> Option<Vec<&T>> where T: PartialEq { unimplemented!() }
    /// Shown as the original does: weights with two decimals, half up.
    pub fn show_with(&self, _leaf: &dyn Fn(&T) -> String) -> String { unimplemented!() }
}

impl NameTree<Path> {
    pub fn read(_text: &str) -> Result<NameTree<Path>, ParseError> { unimplemented!() }
    /// Like `Display`, but weights keep every digit, so that reading gives the same tree back.
    pub fn show_exact(&self) -> String { unimplemented!() }
}

impl fmt::Display for NameTree<Path> { fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result { unimplemented!() } }
