//! Messages for a reader.

use std::fmt::{self, Debug, Display};

/// Equal bytes after which the rest of them is left out.
const RUN_MAX: usize = 40;

/// A message in one line, without the fields that are not set.
pub(crate) struct Shown<'a, T>(pub(crate) &'a T);

impl<T: Debug> Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_long_runs(&without_defaults(&format!("{:?}", self.0))))
    }
}

/// Takes the fields with the value of their type's default out of what `Debug` has written.
fn without_defaults(debug: &str) -> String {
    const DEFAULTS: [&str; 5] = ["0", "false", "None", "[]", "b\"\""];
    let mut kept = String::new();
    let mut rest = debug;
    while let Some(colon) = rest.find(": ") {
        let name = rest[..colon].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |before| before + 1);
        let value = &rest[colon + 2..];
        let after = DEFAULTS.iter().find_map(|default| {
            value.strip_prefix(default).filter(|after| after.starts_with(", ") || after.starts_with(" }"))
        });
        match after {
            Some(after) => {
                kept.push_str(&rest[..name]);
                rest = after.trim_start_matches(", ");
            }
            None => {
                kept.push_str(&rest[..colon + 2]);
                rest = value;
            }
        }
    }
    kept + rest
}

fn without_long_runs(text: &str) -> String {
    let (mut last, mut run) = ('\0', 0);
    let is_kept = |c: &char| {
        run = if *c == last { run + 1 } else { 0 };
        last = *c;
        run < RUN_MAX
    };
    text.chars().filter(is_kept).collect()
}
