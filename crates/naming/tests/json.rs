//! The texts of trees and addresses, byte for byte.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use names::{NameTree, Path, Weighted};
use naming::{
    Addr, Bound, Endpoint, Live, Meta, State,
    json::{addr, bound_tree, java_double, text},
};
use serde_json::json;

fn path(text: &str) -> Path {
    Path::read(text).unwrap()
}

#[test]
fn numbers_are_shown_as_java_shows_them() {
    let cases = [
        (0.0, "0.0"),
        (1.0, "1.0"),
        (9.0, "9.0"),
        (0.1, "0.1"),
        (0.001, "0.001"),
        (0.0001, "1.0E-4"),
        (0.00025, "2.5E-4"),
        (2.125, "2.125"),
        (9_999_999.0, "9999999.0"),
        (10_000_000.0, "1.0E7"),
        (12_345_678_900.0, "1.23456789E10"),
        (1e300, "1.0E300"),
    ];
    for (number, shown) in cases {
        assert_eq!(java_double(number), shown);
    }
}

fn endpoints(list: &[(&str, Meta)], meta: Meta) -> Addr {
    let endpoint = |(addr, meta): &(&str, Meta)| {
        let weight = meta.get("endpoint_addr_weight").and_then(|weight| weight.as_f64()).unwrap_or(1.0);
        Endpoint { addr: addr.parse().unwrap(), weight, meta: Arc::new(meta.clone()) }
    };
    Addr::Bound { endpoints: list.iter().map(endpoint).collect(), meta: Arc::new(meta) }
}

#[test]
fn addresses_and_trees_have_the_originals_texts() {
    let weighted = Meta::from([("endpoint_addr_weight".to_owned(), json!(0.0001))]);
    let set = endpoints(&[("10.1.2.3:80", Meta::new()), ("[::1]:81", weighted)], Meta::new());
    let bound = r#"{"type":"bound","addrs":[{"ip":"10.1.2.3","port":80,"meta":{}},{"ip":"::1","port":81,"meta":{"endpoint_addr_weight":1.0E-4}}],"meta":{}}"#;
    assert_eq!(text(&addr(&State::Ok(set.clone()))), bound);
    assert_eq!(text(&addr(&State::Ok(Addr::Neg))), r#"{"type":"neg"}"#);
    assert_eq!(text(&addr(&State::Pending)), r#"{"type":"pending"}"#);
    assert_eq!(text(&addr(&State::Failed("no \"x\"".into()))), r#"{"type":"failed","cause":"no \"x\""}"#);

    let leaf = |weight| {
        NameTree::Leaf(Bound {
            weight,
            ..Bound::new(path("/#/n/a"), path("/r"), Live::constant(endpoints(&[], Meta::new())))
        })
    };
    let leaf_text = |meta: &str| {
        format!(
            r##"{{"type":"leaf","bound":{{"addr":{{"type":"bound","addrs":[],"meta":{meta}}},"id":"/#/n/a","path":"/r"}}}}"##
        )
    };
    assert_eq!(text(&bound_tree(&leaf(None))), leaf_text("{}"));
    let union = NameTree::Union(vec![
        Weighted { weight: 9.0, tree: leaf(Some(9.0)) },
        Weighted { weight: 0.0001, tree: NameTree::Empty },
    ]);
    let wanted = format!(
        r#"{{"type":"union","union":[{{"weight":9.0,"tree":{}}},{{"weight":1.0E-4,"tree":{{"type":"empty"}}}}]}}"#,
        leaf_text(r#"{"namer_nametree_weight":9.0}"#)
    );
    assert_eq!(text(&bound_tree(&union)), wanted);
    for (tree, shown) in [(NameTree::Neg, "neg"), (NameTree::Fail, "fail"), (NameTree::Empty, "empty")] {
        assert_eq!(text(&bound_tree(&tree)), format!(r#"{{"type":"{shown}"}}"#));
    }
}
