//! An event in each wire format that somebody in its audience speaks.

use std::borrow::Cow;

use bytes::Bytes;
use edge_protocol::{
    engine_io::v3::BinaryForm,
    plain_json,
    socket_io::{self, EncodeError},
};
use proto::edge::v1::Emit;

use crate::{backend_link::EmitCount, connection::Class, shard::rooms::RoomKey};

/// One event in each wire format that somebody in the audience speaks, made when the first of them comes up.
pub(super) struct Encoded<'a> {
    pub(super) namespace: &'a str,
    pub(super) emit: &'a Emit,
    pub(super) ack_id: Option<u64>,
    pub(super) class: Class,
    /// The room whose log has it, where it can be had again.
    pub(super) log: Option<RoomKey>,
    /// For clients that recover their connections.
    pub(super) offset: Option<String>,
    /// What stands behind that, for those who have been given all that the link has brought.
    pub(super) delivered: Option<EmitCount>,
    /// It is to be kept for those of them that miss it.
    pub(super) is_kept: bool,
    /// What tells it from others, while a socket may have been given it elsewhere.
    pub(super) fingerprint: Option<u64>,
    socket_io: Option<Bytes>,
    /// The same for clients that are behind.
    behind: Option<Bytes>,
    /// With bytes, as Engine.IO 3 has them.
    older: [Option<Bytes>; 2],
    plain_json: Option<Bytes>,
}

impl<'a> Encoded<'a> {
    pub(super) fn new(namespace: &'a str, emit: &'a Emit, class: Class) -> Self {
        Self {
            namespace,
            emit,
            ack_id: None,
            class,
            log: None,
            offset: None,
            delivered: None,
            is_kept: false,
            fingerprint: None,
            socket_io: None,
            behind: None,
            older: [None, None],
            plain_json: None,
        }
    }

    pub(super) fn socket_io(&mut self) -> Result<&Bytes, EncodeError> {
        if self.socket_io.is_none() {
            self.socket_io = Some(self.encode_socket_io(self.delivered)?);
        }
        self.socket_io.as_ref().ok_or(EncodeError::NotAnArray)
    }

    /// For a client that is behind. It has not been given all that the link has brought, and must not say so later.
    pub(super) fn socket_io_behind(&mut self) -> Result<&Bytes, EncodeError> {
        if self.delivered.is_none() {
            return self.socket_io();
        }
        if self.behind.is_none() {
            self.behind = Some(self.encode_socket_io(None)?);
        }
        self.behind.as_ref().ok_or(EncodeError::NotAnArray)
    }

    fn encode_socket_io(&self, delivered: Option<EmitCount>) -> Result<Bytes, EncodeError> {
        let Emit { event, args, attachments, .. } = self.emit;
        let namespace = self.namespace;
        let frames = match (&self.offset, delivered.map(EmitCount::to_suffix)) {
            (Some(offset), suffix) => {
                let offset = match suffix {
                    Some(suffix) => Cow::Owned(format!("{offset}{suffix}")),
                    None => Cow::Borrowed(&**offset),
                };
                socket_io::encode_recoverable_event_frames(
                    namespace,
                    event,
                    args,
                    &offset,
                    attachments,
                )
            }
            (None, _) => {
                socket_io::encode_event_frames(namespace, event, args, self.ack_id, attachments)
            }
        }?;
        Ok(frames.into())
    }

    /// Only bytes differ for older clients.
    pub(super) fn socket_io_2(&mut self, form: BinaryForm) -> Result<&Bytes, EncodeError> {
        if self.emit.attachments.is_empty() {
            return self.socket_io();
        }
        self.socket_io()?;
        let [bytes, base64] = &mut self.older;
        let older = match form {
            BinaryForm::Bytes => bytes,
            BinaryForm::Base64 => base64,
        };
        if older.is_none() {
            let rewritten = self.socket_io.as_ref().map(|frames| form.rewrite(frames));
            *older = rewritten.and_then(Result::ok).map(Bytes::from);
        }
        older.as_ref().ok_or(EncodeError::NotAnArray)
    }

    pub(super) fn plain_json(&mut self) -> Result<&Bytes, EncodeError> {
        if self.plain_json.is_none() {
            let Emit { event, args, attachments, .. } = self.emit;
            let frames = plain_json::encode_event_frames(event, args, self.ack_id, attachments)?;
            self.plain_json = Some(frames.into());
        }
        self.plain_json.as_ref().ok_or(EncodeError::NotAnArray)
    }
}
