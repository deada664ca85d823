//! Takes a secret from the environment, and from nowhere else.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;

use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches, error::ErrorKind};
use secrecy::{ExposeSecret, SecretSlice};

const ID: &str = "auth-hs256-secret";
const VARIABLE: &str = "AUTH_HS256_SECRET";

/// The setting `AUTH_HS256_SECRET`.
///
/// On the command line it is refused: other users of the machine can read that. It is not judged here either, because
/// a parser's error would quote it.
#[derive(Clone, Default)]
pub struct SecretVariable(Option<SecretSlice<u8>>);

impl SecretVariable {
    /// Makes up a secret.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = vec![0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Some(SecretSlice::from(bytes)))
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn expose(&self) -> Option<&[u8]> {
        self.0.as_ref().map(ExposeSecret::expose_secret)
    }
}

impl fmt::Debug for SecretVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "SecretVariable(set)" } else { "SecretVariable(unset)" })
    }
}

impl Args for SecretVariable {
    fn augment_args(command: Command) -> Command {
        command.arg(
            Arg::new(ID)
                .long(ID)
                .env(VARIABLE)
                .hide_env_values(true)
                .value_name("SECRET")
                .value_parser(ValueParser::os_string())
                .help("The secret of HS256 tokens, at least 32 bytes. Only as the variable: the flag is refused, because other users can read a command line"),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SecretVariable {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        if matches.value_source(ID) == Some(ValueSource::CommandLine) {
            return Err(Error::raw(
                ErrorKind::ArgumentConflict,
                format!("a command line keeps no secrets: use {VARIABLE} or --{ID}-file\n"),
            ));
        }
        let secret = matches.get_one::<OsString>(ID).cloned();
        Ok(secret.map_or_else(Self::default, |secret| Self::from_bytes(secret.into_vec())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
