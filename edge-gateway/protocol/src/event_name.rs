//! What the name of an event may be, whichever way a client writes it.

use std::borrow::Cow;

use crate::json::StringSpan;

/// Longest name of an event.
pub const EVENT_NAME_BYTES_MAX: usize = 256;

/// Six bytes of escape, `\u006e`, can stand for one byte of a name.
const WRITTEN_BYTES_MAX: usize = 6 * EVENT_NAME_BYTES_MAX;

/// Why a string is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadName {
    TooLong,
    NotUnicode,
}

/// Returns the name that is written at `span`.
pub(crate) fn resolve<'a>(span: &StringSpan, text: &'a str) -> Result<Cow<'a, str>, BadName> {
    if span.inside.len() > WRITTEN_BYTES_MAX {
        return Err(BadName::TooLong);
    }
    let name = span.resolve(text).ok_or(BadName::NotUnicode)?;
    if name.len() > EVENT_NAME_BYTES_MAX {
        return Err(BadName::TooLong);
    }
    Ok(name)
}
