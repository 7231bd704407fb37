//! Panics of runs: kept, with their place, instead of being printed.
//!
//! A panic is a finding, and its place is known only while it happens: the hook of the process notes it down for the
//! thread that asked. Panics of other threads are printed as ever; those of runs too, if `RUST_BACKTRACE` asks for more
//! than a line.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// What became of a function that may have panicked.
#[derive(Debug)]
pub struct Caught<T> {
    /// What it returned; nothing, if it panicked.
    pub value: Option<T>,
    /// Every panic on this thread meanwhile, also those that something has caught on the way: message and place.
    pub panics: Vec<String>,
}

thread_local! {
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Calls a function, and keeps its panics.
pub fn catch<T>(function: impl FnOnce() -> T) -> Caught<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(install);
    let outer = PANICS.replace(Some(Vec::new()));
    let value = catch_unwind(AssertUnwindSafe(function)).ok();
    let panics = PANICS.replace(outer).unwrap_or_default();
    Caught { value, panics }
}

fn install() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // A panic while a panic is noted down must not be a third.
        let kept = PANICS.try_with(|panics| match panics.try_borrow_mut() {
            Ok(mut panics) => panics.as_mut().map(|panics| panics.push(described(info))).is_some(),
            Err(_) => false,
        });
        if kept != Ok(true) || std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            print(info);
        }
    }));
}

fn described(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    match info.location() {
        Some(location) => format!("{message} (at {location})"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_kept_with_its_message_and_place() {
        let caught = catch(|| -> u32 { panic!("index {} is gone", 3) });
        assert_eq!(caught.value, None);
        let [panic] = &caught.panics[..] else { panic!("{:?}", caught.panics) };
        assert!(panic.starts_with("index 3 is gone (at ") && panic.contains("panics.rs:"), "{panic}");
    }

    #[test]
    fn a_panic_that_was_caught_on_the_way_is_kept_beside_the_value() {
        let caught = catch(|| drop(catch_unwind(|| panic!("swallowed"))));
        assert_eq!(caught.value, Some(()));
        assert!(caught.panics[0].starts_with("swallowed"));
        assert!(catch(|| ()).panics.is_empty(), "it belongs to that call alone");
    }
}
