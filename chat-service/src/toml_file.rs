//! Reads a TOML file field by field, so that all that is wrong with it is told at once.

use std::{
    fmt, fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

/// The file, and what has been found wrong with it so far.
#[derive(Debug)]
pub(crate) struct TomlFile<'t> {
    path: &'t Path,
    text: &'t str,
    faults: Vec<TomlFault>,
}

/// A table of it, of which each field is read once. What is left when it is finished means nothing here.
#[derive(Debug)]
pub(crate) struct Fields<'t> {
    span: Range<usize>,
    rest: DeTable<'t>,
}

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum TomlFileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not TOML, or says what means nothing here: all of that.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Faults(Vec<TomlFault>),
}

/// One thing that is wrong with a file.
#[derive(Debug, Error)]
#[error("{}:{line}: {message}", path.display())]
pub struct TomlFault {
    path: PathBuf,
    line: usize,
    message: String,
}

/// Reads the text of a file.
pub(crate) fn read_text(path: &Path) -> Result<String, TomlFileError> {
    fs::read_to_string(path).map_err(|source| TomlFileError::Read { path: path.to_owned(), source })
}

impl<'t> TomlFile<'t> {
    pub(crate) fn new(path: &'t Path, text: &'t str) -> Self {
        Self { path, text, faults: Vec::new() }
    }

    /// The folder that the file is in.
    pub(crate) fn folder(&self) -> &'t Path {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            Some(_) | None => Path::new("."),
        }
    }

    /// The fields of the file.
    pub(crate) fn fields(&mut self) -> Fields<'t> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.add(&error.span().unwrap_or_default(), error.message());
        }
        Fields { span: table.span(), rest: table.into_inner() }
    }

    /// Notes that something is wrong.
    pub(crate) fn add(&mut self, span: &Range<usize>, message: impl fmt::Display) {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let (path, message) = (self.path.to_owned(), message.to_string());
        self.faults.push(TomlFault { path, line, message });
    }

    /// Tells all that is wrong, if anything is.
    pub(crate) fn finish(mut self) -> Result<(), TomlFileError> {
        if self.faults.is_empty() {
            return Ok(());
        }
        self.faults.sort_by_key(|fault| fault.line);
        Err(TomlFileError::Faults(self.faults))
    }
}

impl<'t> Fields<'t> {
    /// The fields of a table.
    pub(crate) fn of_table(file: &mut TomlFile<'_>, value: Spanned<DeValue<'t>>) -> Option<Self> {
        let span = value.span();
        let DeValue::Table(rest) = value.into_inner() else {
            file.add(&span, "this must be a table");
            return None;
        };
        Some(Self { span, rest })
    }

    /// Where the table begins.
    pub(crate) fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// A field, left where it is.
    pub(crate) fn peek(&self, name: &str) -> Option<&DeValue<'t>> {
        self.rest.get(name).map(Spanned::get_ref)
    }

    /// A field, unread.
    pub(crate) fn take(&mut self, name: &str) -> Option<Spanned<DeValue<'t>>> {
        self.rest.remove(name)
    }

    /// A field that is of a certain kind, with its place.
    pub(crate) fn read<T: Deserialize<'t>>(
        &mut self,
        file: &mut TomlFile<'_>,
        name: &str,
    ) -> Option<Spanned<T>> {
        let value = self.take(name)?;
        let span = value.span();
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(Spanned::new(span, value)),
            Err(error) => {
                file.add(
                    &error.span().unwrap_or(span),
                    format_args!("{name}: {}", error.message()),
                );
                None
            }
        }
    }

    /// The tables in a field that is a table of them, by name.
    pub(crate) fn tables(
        &mut self,
        file: &mut TomlFile<'_>,
        name: &str,
    ) -> Vec<(Spanned<String>, Self)> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let Some(table) = Self::of_table(file, value) else { return Vec::new() };
        let entries = table.rest.into_iter();
        let tables = entries.filter_map(|(name, value)| {
            let name = Spanned::new(name.span(), name.into_inner().into_owned());
            Some((name, Self::of_table(file, value)?))
        });
        tables.collect()
    }

    /// Notes the fields that nobody has asked for.
    pub(crate) fn finish(self, file: &mut TomlFile<'_>) {
        for name in self.rest.keys() {
            file.add(&name.span(), format_args!("unknown field `{}`", name.get_ref()));
        }
    }
}
