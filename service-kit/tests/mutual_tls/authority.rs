//! Authorities that a test makes, and the files of those that they certify.

use std::{fs, path::Path};

use pem::Pem;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use service_kit::{
    mutual_tls::{HTTP_2, MutualTls, MutualTlsError, MutualTlsFiles},
    tls::Usage,
    watched_files::{ReadFilesError, SettingFile},
};
use tempfile::TempDir;

/// What certificates are of.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = encode("CERTIFICATE", params.self_signed(&key).unwrap().der());
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names, and its key.
    pub(crate) fn certify(&self, names: &[&str], years: (i32, i32)) -> (String, String) {
        self.certify_for(names, years, &[])
    }

    /// The same, with extended key usages.
    pub(crate) fn certify_for(
        &self,
        names: &[&str],
        years: (i32, i32),
        usages: &[ExtendedKeyUsagePurpose],
    ) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        params.extended_key_usages = usages.to_vec();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = encode("PRIVATE KEY", &key.serialize_der());
        (encode("CERTIFICATE", certificate.der()), key)
    }
}

pub(crate) const GOOD: (i32, i32) = (2020, 2200);
pub(crate) const PAST: (i32, i32) = (2020, 2021);
pub(crate) const FUTURE: (i32, i32) = (2199, 2200);

fn encode(tag: &str, der: &[u8]) -> String {
    pem::encode(&Pem::new(tag, der))
}

/// The files of a service.
pub(crate) struct Files(pub(crate) TempDir);

impl Files {
    pub(crate) fn new(trusted: &str, own: &(String, String)) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("ca", trusted);
        files.write("key", &own.1);
        files.write("certificate", &own.0);
        files
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    pub(crate) fn open(&self) -> MutualTls {
        self.open_for(&[]).unwrap()
    }

    pub(crate) fn open_for(
        &self,
        usages: &'static [Usage],
    ) -> Result<MutualTls, ReadFilesError<MutualTlsError>> {
        let file =
            |setting, name: &str| SettingFile::new(setting, Path::new(self.0.path()).join(name));
        let files = MutualTlsFiles {
            certificate: file("CERT", "certificate"),
            key: file("KEY", "key"),
            authorities: file("CA", "ca"),
        };
        MutualTls::open("test", files, &[HTTP_2], usages)
    }
}
