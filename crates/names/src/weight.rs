//! How the original prints weights.

/// Two decimals, rounded half up on the shortest decimal form of the double, as Java's `%.2f` does:
/// 0.125 → `0.13`, 1.005 → `1.01`. Rust's `{:.2}` rounds the exact binary value instead.
/// `weight` is finite and not negative.
pub(crate) fn two_decimals(weight: f64) -> String {
    let shortest = format!("{weight}");
    let (whole, fraction) = shortest.split_once('.').unwrap_or((&shortest, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(2)).collect();
    if fraction.as_bytes().get(2).is_some_and(|third| *third >= b'5') {
        let mut at = digits.len();
        loop {
            if at == 0 {
                digits.insert(0, b'1');
                break;
            }
            at -= 1;
            if digits[at] == b'9' {
                digits[at] = b'0';
            } else {
                digits[at] += 1;
                break;
            }
        }
    }
    let mut text: String = digits.into_iter().map(char::from).collect();
    text.insert(text.len() - 2, '.');
    text
}
