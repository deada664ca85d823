//! Frames of a link that are sent as they were encoded: once, where they are put together.

use std::{fmt, marker::PhantomData};

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

/// A message of type `M` in its wire format. A clone shares the bytes.
pub struct Encoded<M> {
    bytes: Bytes,
    message: PhantomData<fn() -> M>,
}

impl<M> Encoded<M> {
    /// The message in its wire format.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<M: Message> Encoded<M> {
    /// Takes fields of `M` in the wire format, and appends those of `rest`: it is how messages are merged (Protocol Buffers,
    /// "Encoding"). That the former are fields of `M` is not checked.
    ///
    /// # Panics
    ///
    /// Never: a vector grows.
    pub fn appended(mut fields: Vec<u8>, rest: &M) -> Self {
        rest.encode(&mut fields).expect("a vector grows");
        Self { bytes: fields.into(), message: PhantomData }
    }
}

impl<M: Message> From<&M> for Encoded<M> {
    fn from(message: &M) -> Self {
        Self::appended(Vec::new(), message)
    }
}

impl<M> Clone for Encoded<M> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), message: PhantomData }
    }
}

/// Tells the size. What is in it is not for logs.
impl<M> fmt::Debug for Encoded<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Encoded({} bytes)", self.bytes.len())
    }
}

/// Sends messages that are encoded already, and reads others as usual.
#[derive(Debug)]
pub struct EncodedCodec<M, D> {
    messages: PhantomData<fn() -> (M, D)>,
}

impl<M, D> Default for EncodedCodec<M, D> {
    fn default() -> Self {
        Self { messages: PhantomData }
    }
}

impl<M: 'static, D: Message + Default + 'static> Codec for EncodedCodec<M, D> {
    type Encode = Encoded<M>;
    type Decode = D;
    type Encoder = EncodedEncoder<M>;
    type Decoder = ProstDecoder<D>;

    fn encoder(&mut self) -> EncodedEncoder<M> {
        EncodedEncoder { message: PhantomData }
    }

    fn decoder(&mut self) -> ProstDecoder<D> {
        ProstDecoder::default()
    }
}

/// Copies the bytes of a message behind its gRPC prefix.
#[derive(Debug)]
pub struct EncodedEncoder<M> {
    message: PhantomData<fn() -> M>,
}

impl<M> Encoder for EncodedEncoder<M> {
    type Item = Encoded<M>;
    type Error = Status;

    fn encode(&mut self, item: Encoded<M>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item.bytes);
        Ok(())
    }
}
