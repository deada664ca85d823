//! Ends a process: a line for the operator on each thing that is wrong, and an exit code that says who must act.

use std::{
    ffi::OsString,
    io::{self, Write},
    process,
};

/// Why a process ends early, after `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCode {
    /// The command line is wrong.
    Usage,
    /// Something that the process needs is not to be had: an address is taken, for one.
    Unavailable,
    /// The process itself failed.
    Internal,
    /// A setting, or a file that a setting names, is wrong.
    Configuration,
}

impl FailureCode {
    /// Returns the exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::Configuration => 78,
        }
    }
}

/// What ended a process: one error, or several that were found at once.
#[derive(Debug)]
pub struct Failure {
    code: FailureCode,
    errors: Vec<anyhow::Error>,
}

impl Failure {
    /// Returns the failure of a process whose settings are wrong.
    pub fn configuration(error: impl Into<anyhow::Error>) -> Self {
        Self { code: FailureCode::Configuration, errors: vec![error.into()] }
    }

    /// Returns the failure of a process in whose settings several things are wrong.
    pub fn of_configurations<E: Into<anyhow::Error>>(errors: impl IntoIterator<Item = E>) -> Self {
        let errors = errors.into_iter().map(Into::into).collect();
        Self { code: FailureCode::Configuration, errors }
    }

    /// Returns the failure of a process that cannot get what it needs.
    pub fn unavailable(error: impl Into<anyhow::Error>) -> Self {
        Self { code: FailureCode::Unavailable, errors: vec![error.into()] }
    }

    /// Returns the failure of a process that failed by itself.
    pub fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self { code: FailureCode::Internal, errors: vec![error.into()] }
    }

    /// Returns the exit code.
    pub fn code(&self) -> FailureCode {
        self.code
    }

    /// Returns each error and its causes on a line of its own.
    fn lines(&self) -> impl Iterator<Item = String> {
        self.errors.iter().map(|error| format!("error: {error:#}").replace('\n', " "))
    }
}

/// Returns what `main` returns, after telling the operator on stderr what went wrong.
pub fn finish(result: Result<(), Failure>) -> process::ExitCode {
    match result {
        Ok(()) => process::ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.lines() {
                // Where stderr is closed, the exit code speaks alone.
                writeln!(io::stderr().lock(), "{line}").ok();
            }
            process::ExitCode::from(failure.code.code())
        }
    }
}

/// Returns the command line and environment of this process as `T`.
///
/// Ends the process with code 64 when they are wrong, and with 0 after printing the help or the version.
pub fn parse_args<T: clap::Parser>() -> T {
    match parse_args_from(std::env::args_os()) {
        Ok(args) => args,
        Err((error, code)) => {
            error.print().ok();
            process::exit(code)
        }
    }
}

fn parse_args_from<T: clap::Parser>(
    args: impl IntoIterator<Item = OsString>,
) -> Result<T, (clap::Error, i32)> {
    T::try_parse_from(args).map_err(|error| {
        let code = if error.use_stderr() { FailureCode::Usage.code().into() } else { 0 };
        (error, code)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(version = "1.2.3")]
    struct Args {
        #[arg(long)]
        count: u8,
    }

    fn code_for(args: &[&str]) -> i32 {
        let args = args.iter().map(|arg| OsString::from(*arg));
        match parse_args_from::<Args>(args) {
            Ok(args) => panic!("{args:?} was accepted"),
            Err((_, code)) => code,
        }
    }

    #[test]
    fn exit_codes_are_those_of_sysexits() {
        assert_eq!(FailureCode::Usage.code(), 64);
        assert_eq!(FailureCode::Unavailable.code(), 69);
        assert_eq!(FailureCode::Internal.code(), 70);
        assert_eq!(FailureCode::Configuration.code(), 78);
    }

    #[test]
    fn a_wrong_command_line_is_a_usage_error_and_a_question_is_none() {
        assert_eq!(code_for(&["program", "--count", "many"]), 64);
        assert_eq!(code_for(&["program"]), 64);
        assert_eq!(code_for(&["program", "--unknown"]), 64);
        assert_eq!(code_for(&["program", "--help"]), 0);
        assert_eq!(code_for(&["program", "--version"]), 0);

        let args = ["program", "--count", "7"].map(OsString::from);
        assert_eq!(parse_args_from::<Args>(args).unwrap().count, 7);
    }

    #[test]
    fn a_failure_is_one_line_with_its_causes() {
        let cause = io::Error::new(io::ErrorKind::AddrInUse, "address in\nuse");
        let failure = Failure::unavailable(anyhow::Error::new(cause).context("cannot listen"));

        assert_eq!(failure.lines().collect::<Vec<_>>(), ["error: cannot listen: address in use"]);
        assert_eq!(failure.code(), FailureCode::Unavailable);
    }

    #[test]
    fn what_was_found_at_once_is_told_at_once() {
        let failure = Failure::of_configurations(["a", "b"].map(io::Error::other));

        assert_eq!(failure.lines().collect::<Vec<_>>(), ["error: a", "error: b"]);
        assert_eq!(failure.code(), FailureCode::Configuration);
    }

    #[test]
    fn each_kind_of_failure_has_its_code() {
        let error = || io::Error::other("broken");

        assert_eq!(Failure::configuration(error()).code(), FailureCode::Configuration);
        assert_eq!(Failure::unavailable(error()).code(), FailureCode::Unavailable);
        assert_eq!(Failure::internal(error()).code(), FailureCode::Internal);
        assert_eq!(finish(Ok(())), process::ExitCode::SUCCESS);
        assert_eq!(finish(Err(Failure::internal(error()))), process::ExitCode::from(70));
    }
}
