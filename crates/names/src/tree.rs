//! Name trees: alternates, weighted unions, leaves, and the three ends `~`, `!`, `$`.

use std::fmt;

use crate::{ParseError, Path, parser::Parser, weight::two_decimals};

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
    pub fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> NameTree<U> {
        match self {
            NameTree::Alt(trees) => NameTree::Alt(trees.iter().map(|tree| tree.map(f)).collect()),
            NameTree::Union(branches) => NameTree::Union(
                branches.iter().map(|branch| Weighted { weight: branch.weight, tree: branch.tree.map(f) }).collect(),
            ),
            NameTree::Leaf(leaf) => NameTree::Leaf(f(leaf)),
            NameTree::Neg => NameTree::Neg,
            NameTree::Fail => NameTree::Fail,
            NameTree::Empty => NameTree::Empty,
        }
    }

    /// Evaluation-equivalent and as small as the original makes it: in alternates `~` goes and nothing
    /// stands behind `!`; in unions both go, and what is left alone loses its weight.
    pub fn simplified(&self) -> NameTree<T>
    where
        T: Clone,
    {
        match self {
            NameTree::Alt(trees) => simplified_alternates(trees),
            NameTree::Union(branches) => simplified_union(branches),
            other => other.clone(),
        }
    }

    /// `None` for Fail and Neg, else the leaves that can answer (none for Empty), without duplicates, in order.
    pub fn eval(&self) -> Option<Vec<&T>>
    where
        T: PartialEq,
    {
        match self.evaluated() {
            Evaluated::Leaves(leaves) => Some(leaves),
            Evaluated::Neg | Evaluated::Fail => None,
        }
    }

    fn evaluated(&self) -> Evaluated<'_, T>
    where
        T: PartialEq,
    {
        match self {
            NameTree::Leaf(leaf) => Evaluated::Leaves(vec![leaf]),
            NameTree::Empty => Evaluated::Leaves(Vec::new()),
            NameTree::Fail => Evaluated::Fail,
            NameTree::Neg => Evaluated::Neg,
            NameTree::Alt(trees) => trees
                .iter()
                .map(NameTree::evaluated)
                .find(|result| !matches!(result, Evaluated::Neg))
                .unwrap_or(Evaluated::Neg),
            NameTree::Union(branches) => {
                let mut answers = branches.iter().filter_map(|branch| match branch.tree.evaluated() {
                    Evaluated::Leaves(leaves) => Some(leaves),
                    Evaluated::Neg | Evaluated::Fail => None,
                });
                let Some(mut all) = answers.next() else { return Evaluated::Neg };
                for leaf in answers.flatten() {
                    if !all.contains(&leaf) {
                        all.push(leaf);
                    }
                }
                Evaluated::Leaves(all)
            }
        }
    }

    /// Shown as the original does: weights with two decimals, half up.
    pub fn show_with(&self, leaf: &dyn Fn(&T) -> String) -> String {
        self.shown(leaf, two_decimals)
    }

    fn shown(&self, leaf: &dyn Fn(&T) -> String, weight: fn(f64) -> String) -> String {
        match self {
            NameTree::Leaf(value) => leaf(value),
            NameTree::Neg => "~".to_owned(),
            NameTree::Fail => "!".to_owned(),
            NameTree::Empty => "$".to_owned(),
            NameTree::Alt(trees) if trees.len() == 1 => trees[0].shown(leaf, weight),
            NameTree::Alt(trees) => {
                let inside = |tree: &NameTree<T>| {
                    let text = tree.shown(leaf, weight);
                    if matches!(tree.transparent(), NameTree::Alt(_)) { format!("({text})") } else { text }
                };
                trees.iter().map(inside).collect::<Vec<_>>().join(" | ")
            }
            NameTree::Union(branches) if branches.len() == 1 => branches[0].tree.shown(leaf, weight),
            NameTree::Union(branches) => {
                let inside = |branch: &Weighted<T>| {
                    let mut text = branch.tree.shown(leaf, weight);
                    if matches!(branch.tree.transparent(), NameTree::Alt(_) | NameTree::Union(_)) {
                        text = format!("({text})");
                    }
                    if branch.weight == 1.0 { text } else { format!("{}*{text}", weight(branch.weight)) }
                };
                branches.iter().map(inside).collect::<Vec<_>>().join(" & ")
            }
        }
    }

    /// Without the alternates and unions of one branch around it.
    fn transparent(&self) -> &NameTree<T> {
        match self {
            NameTree::Alt(trees) if trees.len() == 1 => trees[0].transparent(),
            NameTree::Union(branches) if branches.len() == 1 => branches[0].tree.transparent(),
            other => other,
        }
    }
}

enum Evaluated<'a, T> {
    Neg,
    Fail,
    Leaves(Vec<&'a T>),
}

fn simplified_alternates<T: Clone>(trees: &[NameTree<T>]) -> NameTree<T> {
    let mut kept = Vec::new();
    for tree in trees {
        match tree.simplified() {
            NameTree::Neg => {}
            NameTree::Fail => {
                kept.push(NameTree::Fail);
                break;
            }
            other => kept.push(other),
        }
    }
    match kept.len() {
        0 => NameTree::Neg,
        1 => kept.swap_remove(0),
        _ => NameTree::Alt(kept),
    }
}

fn simplified_union<T: Clone>(branches: &[Weighted<T>]) -> NameTree<T> {
    if let [only] = branches {
        return only.tree.simplified();
    }
    let mut kept: Vec<Weighted<T>> = branches
        .iter()
        .map(|branch| Weighted { weight: branch.weight, tree: branch.tree.simplified() })
        .filter(|branch| !matches!(branch.tree, NameTree::Neg | NameTree::Fail))
        .collect();
    match kept.len() {
        0 => NameTree::Neg,
        1 => kept.swap_remove(0).tree,
        _ => NameTree::Union(kept),
    }
}

impl NameTree<Path> {
    pub fn read(text: &str) -> Result<NameTree<Path>, ParseError> {
        Parser::new(text).tree()
    }

    /// Like `Display`, but weights keep every digit, so that reading gives the same tree back.
    pub fn show_exact(&self) -> String {
        self.shown(&Path::show, |weight| format!("{weight}"))
    }
}

impl fmt::Display for NameTree<Path> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show_with(&Path::show))
    }
}
