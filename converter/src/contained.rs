//! The float runtime held at arm's length: it reads files of others, and a panic of it must not end a tool.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a call of the float runtime; a panic in it becomes an error like those it gives. What it was working on is not
/// used again: every caller gives up its graph with the error.
pub fn contained<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("the float runtime fails on it: {}", text.unwrap_or("it does not say why")))
    })
}

#[cfg(test)]
mod tests {
    use super::contained;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(contained(|| Ok(3)), Ok(3));
        assert_eq!(contained::<u8>(|| Err("no".into())), Err("no".into()));
        let list: Vec<u8> = Vec::new();
        let error = contained(|| Ok(list[4])).unwrap_err();
        assert!(error.contains("index is 4"), "{error}");
    }
}
