//! How an error is told: with what caused it, in one line, no text twice.
//!
//! Libraries differ in where they say what happened: reqwest and hyper say the least in their outermost error, others
//! repeat the inner text in the outer one.

use std::error::Error;

/// `cannot connect: tcp connect error: Connection refused (os error 111)`
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Told(&'static str, Option<Box<Told>>);

    impl std::fmt::Display for Told {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Told {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|inner| inner as _)
        }
    }

    #[test]
    fn causes_follow_and_none_is_told_twice() {
        let told = |texts: &[&'static str]| {
            let of = |inner, text: &&'static str| Some(Box::new(Told(text, inner)));
            chain(&*texts.iter().rev().fold(None, of).expect("an error"))
        };
        assert_eq!(told(&["a"]), "a");
        assert_eq!(told(&["request", "connect", "refused"]), "request: connect: refused");
        assert_eq!(told(&["request: refused", "refused", "os error"]), "request: refused: os error");
    }
}
