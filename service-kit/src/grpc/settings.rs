//! Settings of TLS between the services, of the same names for each service.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc};

use super::callers::{CallerRule, CallersLayer, MethodRoles};
use crate::{
    mutual_tls::{MutualTls, MutualTlsError, MutualTlsFiles},
    plaintext::{self, PlaintextError},
    tls::Usage,
    watched_files::{ReadFilesError, SettingFile},
};

/// Makes `GrpcConfig`, the settings of one service, whose flags and environment variables begin as said:
/// `grpc_config!("auth", "AUTH")`.
#[macro_export]
macro_rules! grpc_config {
    ($flag:literal, $variable:literal) => {
        /// TLS between this service and the others, and who may call it.
        #[derive(Debug, Clone, clap::Args)]
        #[group(id = concat!($flag, "-grpc"))]
        pub struct GrpcConfig {
            /// PEM file with the certificate chain that other services are shown, this service's own first. With it, gRPC is
            /// spoken over TLS only, and callers must show a certificate too. It is read again when it changes.
            #[arg(
                id = concat!($flag, "-grpc-tls-cert-file"),
                long = concat!($flag, "-grpc-tls-cert-file"),
                env = concat!($variable, "_GRPC_TLS_CERT_FILE"),
                value_name = "FILE"
            )]
            pub certificate: Option<std::path::PathBuf>,

            /// PEM file with the certificate's private key, without a passphrase. It is read again when it changes.
            #[arg(
                id = concat!($flag, "-grpc-tls-key-file"),
                long = concat!($flag, "-grpc-tls-key-file"),
                env = concat!($variable, "_GRPC_TLS_KEY_FILE"),
                value_name = "FILE"
            )]
            pub key: Option<std::path::PathBuf>,

            /// PEM file with the certificates of the authorities that say who the other services are. It is read again when it
            /// changes.
            #[arg(
                id = concat!($flag, "-grpc-tls-ca-file"),
                long = concat!($flag, "-grpc-tls-ca-file"),
                env = concat!($variable, "_GRPC_TLS_CA_FILE"),
                value_name = "FILE"
            )]
            pub authorities: Option<std::path::PathBuf>,

            /// Who callers are, by the DNS names in their certificates: edge, backend or admin. `*.` stands for one label. May
            /// be given several times.
            #[arg(
                id = concat!($flag, "-grpc-caller"),
                long = concat!($flag, "-grpc-caller"),
                env = concat!($variable, "_GRPC_CALLERS"),
                value_delimiter = ',',
                value_name = "ROLE=NAME",
                default_value = "edge=edge.sockeye.internal,backend=backend.sockeye.internal,admin=admin.sockeye.internal"
            )]
            pub callers: Vec<$crate::grpc::CallerRule>,

            /// Lets gRPC be spoken without TLS with other machines: something else keeps strangers away, or encrypts.
            #[arg(
                id = concat!($flag, "-grpc-allow-plaintext"),
                long = concat!($flag, "-grpc-allow-plaintext"),
                env = concat!($variable, "_GRPC_ALLOW_PLAINTEXT"),
                value_parser = clap::builder::BoolishValueParser::new()
            )]
            pub allow_plaintext: bool,

            /// Most connections of other services at a time. Half of them may be of one address; those beyond are closed.
            #[arg(
                id = concat!($flag, "-grpc-connections-max"),
                long = concat!($flag, "-grpc-connections-max"),
                env = concat!($variable, "_GRPC_CONNECTIONS_MAX"),
                value_name = "COUNT",
                default_value = "1024"
            )]
            pub connections_max: std::num::NonZeroUsize,
        }

        impl GrpcConfig {
            /// Returns what is set, with the names of the settings.
            pub fn settings(&self) -> $crate::grpc::GrpcSettings {
                $crate::grpc::GrpcSettings {
                    names: $crate::grpc::GrpcSettingNames {
                        certificate: concat!($variable, "_GRPC_TLS_CERT_FILE"),
                        key: concat!($variable, "_GRPC_TLS_KEY_FILE"),
                        authorities: concat!($variable, "_GRPC_TLS_CA_FILE"),
                        allow_plaintext: concat!($variable, "_GRPC_ALLOW_PLAINTEXT"),
                    },
                    certificate: self.certificate.clone(),
                    key: self.key.clone(),
                    authorities: self.authorities.clone(),
                    callers: self.callers.clone(),
                    allow_plaintext: self.allow_plaintext,
                    connections_max: self.connections_max,
                }
            }
        }
    };
}

/// The environment variables of the settings of one service.
#[derive(Debug, Clone, Copy)]
pub struct GrpcSettingNames {
    /// Of the certificate's file.
    pub certificate: &'static str,
    /// Of the key's file.
    pub key: &'static str,
    /// Of the authorities' file.
    pub authorities: &'static str,
    /// Of what allows plaintext.
    pub allow_plaintext: &'static str,
}

/// What the settings of one service say.
#[derive(Debug, Clone)]
pub struct GrpcSettings {
    /// What they are called.
    pub names: GrpcSettingNames,
    /// File of the certificate.
    pub certificate: Option<PathBuf>,
    /// File of the key.
    pub key: Option<PathBuf>,
    /// File of the authorities.
    pub authorities: Option<PathBuf>,
    /// Who callers are.
    pub callers: Vec<CallerRule>,
    /// Whether others may be spoken with in plaintext.
    pub allow_plaintext: bool,
    /// Most connections of a listener at a time.
    pub connections_max: NonZeroUsize,
}

/// Why there is no gRPC with these settings.
#[derive(Debug, thiserror::Error)]
pub enum GrpcSettingsError {
    /// A file is of no use.
    #[error(transparent)]
    Tls(#[from] ReadFilesError<MutualTlsError>),
    /// The settings of TLS do not go together.
    #[error(transparent)]
    Settings(#[from] MutualTlsError),
    /// Others would reach a listener without TLS.
    #[error(transparent)]
    Plaintext(#[from] PlaintextError),
}

/// How a service speaks with others.
#[derive(Debug, Clone)]
pub struct GrpcSecurity {
    /// Over TLS, if it does. Without it nobody knows who a caller is, and all may call everything.
    pub tls: Option<MutualTls>,
    /// Most connections of a listener at a time.
    pub connections_max: NonZeroUsize,
    callers: Arc<[CallerRule]>,
}

impl GrpcSettings {
    /// Reads the certificates, if some are set. `listen` is the setting of the listener with its address, where there is
    /// one, and `protocols` what is spoken there. A certificate is shown to callers where there is a listener, and to others by
    /// whoever `calls` them.
    ///
    /// # Errors
    ///
    /// When a file is of no use, or others would reach a listener without TLS.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn open(
        &self,
        name: &'static str,
        listen: Option<(&'static str, SocketAddr)>,
        protocols: &'static [&'static [u8]],
        calls: bool,
    ) -> Result<GrpcSecurity, GrpcSettingsError> {
        let tls = match self.files()? {
            Some(files) => {
                let usages: &[Usage] = match (listen, calls) {
                    (Some(_), true) => &[Usage::Server, Usage::Client],
                    (Some(_), false) => &[Usage::Server],
                    (None, _) => &[Usage::Client],
                };
                Some(MutualTls::open(name, files, protocols, usages)?)
            }
            None => {
                if let Some(listen) = listen {
                    let allow = (self.names.allow_plaintext, self.allow_plaintext);
                    plaintext::may_listen(listen, allow)?;
                }
                None
            }
        };
        let callers = self.callers.clone().into();
        Ok(GrpcSecurity { tls, connections_max: self.connections_max, callers })
    }

    fn files(&self) -> Result<Option<MutualTlsFiles>, MutualTlsError> {
        let GrpcSettingNames { certificate, key, authorities, .. } = self.names;
        match (&self.certificate, &self.key, &self.authorities) {
            (None, None, None) => Ok(None),
            (Some(chain), Some(private), Some(trusted)) => Ok(Some(MutualTlsFiles {
                certificate: SettingFile::new(certificate, chain),
                key: SettingFile::new(key, private),
                authorities: SettingFile::new(authorities, trusted),
            })),
            _ => Err(MutualTlsError::Incomplete(certificate, key, authorities)),
        }
    }
}

impl GrpcSecurity {
    /// Without TLS or bounds. For networks that are not the system's.
    pub fn plaintext() -> Self {
        Self { tls: None, connections_max: NonZeroUsize::MAX, callers: Arc::default() }
    }

    /// Returns what looks at each call of a service's `methods` before it is carried out.
    pub fn layer(&self, service: &'static str, methods: &'static [MethodRoles]) -> CallersLayer {
        let rules = self.tls.is_some().then(|| Arc::clone(&self.callers));
        CallersLayer::new(service, methods, rules)
    }
}
