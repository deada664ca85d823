//! Says what both servers here share: who a client is, what it may send and what is said to others.

use std::{collections::HashSet, env, fs, io::Write, net::SocketAddr, time::UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};

/// Whether a room is told who comes and goes: as in the chat service, up to so many users.
pub const PRESENCE_LIST_MAX: usize = 100;

/// A client's public profile.
#[derive(Debug, Clone, Serialize)]
pub struct User {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Deserialize)]
pub struct RoomOnly {
    pub room: String,
}

#[derive(Debug, Deserialize)]
pub struct Say {
    pub room: String,
    pub text: String,
}

#[derive(Debug, Deserialize)]
pub struct Typing {
    pub room: String,
    pub typing: bool,
}

#[derive(Debug, Deserialize)]
pub struct Blob {
    pub room: String,
    pub data: String,
}

#[derive(Debug, Deserialize)]
pub struct Echo {
    pub data: String,
}

#[derive(Debug, Serialize)]
pub struct Said<'a> {
    pub room: &'a str,
    pub id: String,
    pub user: &'a User,
    pub text: &'a str,
    pub at: u64,
}

#[derive(Debug, Serialize)]
pub struct IsTyping<'a> {
    pub room: &'a str,
    pub user: &'a User,
    pub typing: bool,
}

#[derive(Debug, Serialize)]
pub struct Sent<'a> {
    pub room: &'a str,
    pub user: &'a User,
    pub data: &'a str,
}

#[derive(Debug, Serialize)]
pub struct Presence<'a> {
    pub room: &'a str,
    pub joined: &'a [&'a User],
    pub left: &'a [&'a User],
    pub count: usize,
}

#[derive(Debug, Serialize)]
pub struct Joined<'a> {
    pub room: &'a str,
    pub count: usize,
}

#[derive(Debug, Serialize)]
pub struct Left<'a> {
    pub room: &'a str,
}

#[derive(Debug, Serialize)]
pub struct Accepted {
    pub id: String,
    pub at: u64,
}

/// An answer that says nothing.
#[derive(Debug, Serialize)]
pub struct Done {}

#[derive(Debug, Serialize)]
pub struct Refused {
    pub error: Refusal,
}

#[derive(Debug, Serialize)]
pub struct Refusal {
    pub code: &'static str,
    pub retryable: bool,
}

impl Refused {
    pub const fn new(code: &'static str) -> Self {
        Self { error: Refusal { code, retryable: false } }
    }
}

/// Checks tokens: signature, issuer, audience and expiry.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    name: String,
}

impl Verifier {
    /// With the secret in the file that the bench names.
    pub fn from_environment() -> anyhow::Result<Self> {
        let path = env::var("BENCH_SECRET_FILE").context("BENCH_SECRET_FILE")?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&["sockeye"]);
        validation.set_issuer(&["sockeye"]);
        validation.required_spec_claims =
            HashSet::from(["exp", "iss", "aud", "sub"].map(str::to_owned));
        Ok(Self { key: DecodingKey::from_secret(&fs::read(path)?), validation })
    }

    pub fn user(&self, token: &str) -> Option<User> {
        let token = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).ok()?;
        Some(User { id: token.claims.sub, name: token.claims.name })
    }
}

pub fn is_room(room: &str) -> bool {
    !room.is_empty() && room.len() <= 200
}

pub fn now_ms() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

/// A number that the bench may give.
pub fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// The address that the bench wants this to listen on.
pub fn address() -> anyhow::Result<SocketAddr> {
    Ok(env::var("BENCH_LISTEN").context("BENCH_LISTEN")?.parse()?)
}

/// Tells the bench where this server listens.
pub fn announce(address: SocketAddr) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "listening {address}")?;
    Ok(out.flush()?)
}
