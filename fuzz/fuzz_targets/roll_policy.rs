//! When an access log is rolled: any text is a policy within its bounds, or is refused with itself in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::settings::Roll;

fuzz_target!(|text: &str| {
    match text.parse::<Roll>() {
        Ok(Roll::Weekly(day)) => assert!((1..=7).contains(&day)),
        Ok(Roll::Size(bytes)) => assert!(bytes > 0),
        Ok(Roll::Never | Roll::Hourly | Roll::Daily) => {}
        Err(error) => assert!(error.to_string().contains(text)),
    }
});
