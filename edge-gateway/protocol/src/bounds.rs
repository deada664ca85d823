//! What one message of a client may be.

/// Bounds of one message, with all that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageBounds {
    /// How many bytes its text and its attachments have together.
    pub bytes_max: usize,
    /// How many arrays and objects lie in each other in any of its arguments.
    pub json_depth_max: usize,
}
