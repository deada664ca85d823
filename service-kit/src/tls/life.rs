//! How long a certificate is good, and what for.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{describe_gauge, gauge};
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};
use webpki::{EndEntityCert, KeyUsage};

use crate::clock;

const EXPIRY: &str = "sockeye_certificate_expiry_timestamp_seconds";

/// How long before its end a certificate is warned of.
const WARNED_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);

/// How often that is said again.
const WARN_INTERVAL: Duration = Duration::from_secs(24 * 3600);

const EXPIRY_LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To whoever connects.
    Server,
    /// To whom is connected to.
    Client,
}

/// Why a certificate is of no use, however well it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfitError {
    /// It, or one that stands behind it, has expired.
    #[error("it has expired, or one of its authorities has")]
    Expired,
    /// It, or one that stands behind it, is not good yet.
    #[error("it is not good yet, or one of its authorities is not")]
    NotYet,
    /// It names extended key usages, and not what it is shown for.
    #[error("it names extended key usages, and {} is not among them", match .0 { Usage::Server => "serverAuth", Usage::Client => "clientAuth" })]
    Usage(Usage),
}

/// The certificate that is in force.
#[derive(Debug)]
pub(crate) struct CertificateLife {
    name: &'static str,
    usages: &'static [Usage],
    own: Mutex<Option<CertificateDer<'static>>>,
    /// In seconds since the Unix epoch; 0 where it is not known.
    good_until: AtomicU64,
}

impl CertificateLife {
    pub(crate) fn new(name: &'static str, usages: &'static [Usage]) -> Arc<Self> {
        describe_gauge!(EXPIRY, "Until when a certificate is good.");
        Arc::new(Self { name, usages, own: Mutex::default(), good_until: AtomicU64::new(0) })
    }

    /// Takes a chain, that of the certificate itself first. The first is taken even if it is not good now: there is none to fall
    /// back on, and the clock may be what is wrong. So is the one that is in force, though it has expired: what is new may be the
    /// authorities that come with it.
    ///
    /// # Errors
    ///
    /// When it is of no use.
    pub(crate) fn take(&self, chain: &[CertificateDer<'_>]) -> Result<(), UnfitError> {
        // A panic under the lock would leave what it holds whole.
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in_force = own.as_ref().is_none_or(|own| chain.first() == Some(own));
        match fitness(chain, self.usages, now()) {
            Err(error @ (UnfitError::Expired | UnfitError::NotYet)) if is_in_force => {
                tracing::error!(files = self.name, %error, "a certificate is of no use now");
            }
            fitness => fitness?,
        }
        self.good_until.store(good_until(chain).unwrap_or(0), Ordering::Relaxed);
        *own = chain.first().map(|own| own.clone().into_owned());
        Ok(())
    }

    /// Tells until when the certificate is good, and warns of its end, for as long as what it returns lives.
    pub(crate) fn watch(self: &Arc<Self>) -> Arc<JoinSet<()>> {
        let mut watching = JoinSet::new();
        watching.spawn(Arc::clone(self).tell());
        Arc::new(watching)
    }

    async fn tell(self: Arc<Self>) {
        let mut looks = time::interval(EXPIRY_LOOK_INTERVAL);
        let mut told: Option<(u64, Instant)> = None;
        loop {
            looks.tick().await;
            let until = self.good_until.load(Ordering::Relaxed);
            if until == 0 {
                continue;
            }
            gauge!(EXPIRY, "files" => self.name).set(until as f64);
            let left = left(until, clock::unix_ms());
            let is_told = told.is_some_and(|(of, at)| of == until && at.elapsed() < WARN_INTERVAL);
            if left > WARNED_BEFORE || is_told {
                continue;
            }
            told = Some((until, Instant::now()));
            let hours = left.as_secs() / 3600;
            tracing::warn!(files = self.name, hours, "a certificate expires soon, or has");
        }
    }
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(clock::unix_ms()))
}

fn left(until: u64, now_unix_ms: u64) -> Duration {
    Duration::from_secs(until).saturating_sub(Duration::from_millis(now_unix_ms))
}

/// Asks for no authority: a chain is good for whom it is shown to, and only the times and usages in it count here.
fn look(
    certificate: &CertificateDer<'_>,
    usage: KeyUsage,
    now: UnixTime,
) -> Result<(), webpki::Error> {
    let parsed = EndEntityCert::try_from(certificate)?;
    parsed.verify_for_usage(&[], &[], &[], now, usage, None, None).map(drop)
}

fn fitness(
    chain: &[CertificateDer<'_>],
    usages: &[Usage],
    now: UnixTime,
) -> Result<(), UnfitError> {
    for certificate in chain {
        match look(certificate, KeyUsage::server_auth(), now) {
            Err(webpki::Error::CertExpired { .. }) => return Err(UnfitError::Expired),
            Err(webpki::Error::CertNotValidYet { .. }) => return Err(UnfitError::NotYet),
            _ => {}
        }
    }
    let Some(own) = chain.first() else { return Ok(()) };
    for usage in usages {
        let asked = match usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        if let Err(
            webpki::Error::RequiredEkuNotFoundContext(_) | webpki::Error::EmptyEkuExtension,
        ) = look(own, asked, now)
        {
            return Err(UnfitError::Usage(*usage));
        }
    }
    Ok(())
}

/// Until when all of a chain is good, in seconds since the Unix epoch.
fn good_until(chain: &[CertificateDer<'_>]) -> Option<u64> {
    let ends = chain.iter().map(|certificate| {
        let never = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
        match look(certificate, KeyUsage::server_auth(), never) {
            Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
            _ => None,
        }
    });
    ends.flatten().min()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
    };

    use super::*;

    /// As `openssl x509 -enddate` tells it of the first of January.
    const Y2030: u64 = 1_893_456_000;
    const Y2020: u64 = 1_577_836_800;

    fn made(years: (i32, i32), usages: &[ExtendedKeyUsagePurpose]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        params.extended_key_usages = usages.to_vec();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn authority(years: (i32, i32)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_certificate_is_good_from_its_first_second_to_its_last() {
        let chain = [made((2020, 2030), &[])];

        assert_eq!(good_until(&chain), Some(Y2030));
        for (now, expected) in [
            (Y2020 - 1, Err(UnfitError::NotYet)),
            (Y2020, Ok(())),
            (Y2030, Ok(())),
            (Y2030 + 1, Err(UnfitError::Expired)),
        ] {
            assert_eq!(fitness(&chain, &[Usage::Server], at(now)), expected, "{now}");
        }
    }

    #[test]
    fn the_first_of_a_chain_to_expire_counts() {
        let chain = [made((2020, 2040), &[]), authority((2020, 2030))];

        assert_eq!(good_until(&chain), Some(Y2030));
        assert_eq!(fitness(&chain, &[], at(Y2030)), Ok(()));
        assert_eq!(fitness(&chain, &[], at(Y2030 + 1)), Err(UnfitError::Expired));
    }

    #[test]
    fn usages_that_are_named_must_be_those_that_are_needed() {
        use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
        let both = [Usage::Server, Usage::Client];
        for (named, server, client) in [
            (&[][..], true, true),
            (&[ServerAuth], true, false),
            (&[ClientAuth], false, true),
            (&[CodeSigning], false, false),
            (&[CodeSigning, ClientAuth, ServerAuth], true, true),
        ] {
            let chain = [made((2020, 2200), named)];
            let is_fit = |usages| fitness(&chain, usages, at(Y2030));
            assert_eq!(is_fit(&both[..1]).is_ok(), server, "{named:?}");
            assert_eq!(is_fit(&both[1..]).is_ok(), client, "{named:?}");
            assert_eq!(is_fit(&both).is_ok(), server && client, "{named:?}");
        }
        let told = UnfitError::Usage(Usage::Client).to_string();
        assert!(told.ends_with("clientAuth is not among them"), "{told}");
    }

    #[test]
    fn what_is_in_force_stays_so_though_it_has_expired_and_no_other_comes_in_then() {
        let life = CertificateLife::new("test", &[]);
        let (own, other) = ([made((2000, 2001), &[])], [made((2000, 2001), &[])]);

        assert_eq!(life.take(&own), Ok(()), "there is no other");
        assert_eq!(life.take(&own), Ok(()), "with other authorities");
        assert_eq!(life.take(&other), Err(UnfitError::Expired));
    }

    #[test]
    fn what_is_left_is_never_less_than_nothing() {
        assert_eq!(left(103, 100_000), Duration::from_secs(3));
        assert_eq!(left(97, 100_000), Duration::ZERO);
    }
}
