//! Finds out that a text is no UTF-8 before its frame has arrived as a whole.

use std::str;

use super::decoder::{DecodeFrameError, MASK_BYTES, unmask};

/// Longest beginning of a character that is not the whole of it.
const CUT_BYTES_MAX: usize = 3;

/// How much is unmasked at once, to be looked at.
const BLOCK_BYTES: usize = 512;

/// What is known of a text frame of which a part has arrived. Each byte is looked at once, however often the frame grows.
#[derive(Debug, Default)]
pub(super) struct PartialText {
    /// How much of the payload was looked at.
    len: usize,
    /// The beginning of a character whose rest is to come.
    cut: [u8; CUT_BYTES_MAX],
    cut_len: usize,
}

impl PartialText {
    /// One for a frame that goes on with the text of an earlier one, which ended in `cut`.
    pub(super) fn after(cut: &[u8]) -> Self {
        let mut partial = Self::default();
        partial.keep(cut);
        partial
    }

    /// Looks at what has arrived of the payload since the last call. `masked` begins with what it began with then.
    pub(super) fn check(
        &mut self,
        mask: [u8; MASK_BYTES],
        masked: &[u8],
    ) -> Result<(), DecodeFrameError> {
        let mut block = [0; CUT_BYTES_MAX + BLOCK_BYTES];
        while let Some(fresh) = masked.get(self.len..).filter(|fresh| !fresh.is_empty()) {
            let fresh = fresh.get(..BLOCK_BYTES).unwrap_or(fresh);
            let filled_len = self.cut_len.saturating_add(fresh.len());
            let Some((cut, unmasked)) = block
                .get_mut(..filled_len)
                .and_then(|block| block.split_at_mut_checked(self.cut_len))
            else {
                return Ok(());
            };
            for (place, byte) in cut.iter_mut().zip(self.cut) {
                *place = byte;
            }
            unmasked.copy_from_slice(fresh);
            let mut mask = mask;
            mask.rotate_left(self.len % MASK_BYTES);
            unmask(mask, unmasked);
            self.keep(cut_character(block.get(..filled_len).unwrap_or_default())?);
            self.len = self.len.saturating_add(fresh.len());
        }
        Ok(())
    }

    fn keep(&mut self, cut: &[u8]) {
        self.cut_len = cut.len().min(CUT_BYTES_MAX);
        for (place, byte) in self.cut.iter_mut().zip(cut) {
            *place = *byte;
        }
    }
}

/// The beginning of a character at the end of a text that goes on.
pub(super) fn cut_character(text: &[u8]) -> Result<&[u8], DecodeFrameError> {
    match str::from_utf8(text) {
        Ok(_) => Ok(&[]),
        Err(cut) if cut.error_len().is_none() => {
            Ok(text.get(cut.valid_up_to()..).unwrap_or_default())
        }
        Err(_) => Err(DecodeFrameError::InvalidUtf8),
    }
}
