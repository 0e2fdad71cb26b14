//! TLS: a certificate and its key, read and checked before anything starts.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error as TlsError, ServerConfig};

use crate::failure::Failure;
use crate::serve::connections::certificate_dates;
use crate::serve_options::TlsOptions;
use crate::terminal;

/// What is spoken over TLS.
const PROTOCOL: &[u8] = b"http/1.1";

/// How the label of a key begins that only its password opens.
const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY";

/// A certificate and its key, ready for connections.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// What is odd about the certificate.
    pub(crate) warning: Option<String>,
}

impl Tls {
    /// Those that the options name.
    pub(crate) fn read(options: &TlsOptions) -> Result<Option<Self>, Failure> {
        let (Some(certificate_path), Some(key_path)) = (&options.tls_cert, &options.tls_key) else { return Ok(None) };
        let chain = read_chain(certificate_path)?;
        let key = read_key(key_path)?;
        let warning = dates_warning(certificate_path, &chain, SystemTime::now());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| {
        let (certificate, key) = (certificate_path.display(), key_path.display());
        Failure::usage(match error {
            TlsError::InconsistentKeys(_) => format!(
                "the key in --tls-key '{key}' does not belong to the first certificate in --tls-cert '{certificate}', \
                 which must be that of the service"
            ),
            error => format!("--tls-cert '{certificate}' and --tls-key '{key}' cannot be used: {error}"),
        })
    })?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Some(Self { config: Arc::new(config), warning }))
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bytes = read_file("--tls-cert", path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| not_pem("--tls-cert", path, &error))?;
    if chain.is_empty() {
        return Err(Failure::usage(format!("--tls-cert '{}' contains no certificate in PEM format", path.display())));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    let bytes = read_file("--tls-key", path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        if bytes.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) {
            return Failure::usage(format!(
                "--tls-key '{}' is encrypted; decrypt it with: openssl pkey -in FILE -out FILE",
                path.display()
            ));
        }
        match error {
            pem::Error::NoItemsFound => {
                Failure::usage(format!("--tls-key '{}' contains no private key in PEM format", path.display()))
            }
            error => not_pem("--tls-key", path, &error),
        }
    })
}

fn read_file(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| {
        Failure::usage(format!("cannot read {option} '{}': {}", path.display(), terminal::reason(&error)))
    })
}

fn not_pem(option: &str, path: &Path, error: &pem::Error) -> Failure {
    Failure::usage(format!("{option} '{}' is not a file in PEM format: {error}", path.display()))
}

/// Clients refuse such a certificate, but the clock of this machine may be what is wrong.
fn dates_warning(path: &Path, chain: &[CertificateDer<'_>], now: SystemTime) -> Option<String> {
    let dates = certificate_dates::read(chain.first()?)?;
    let path = path.display();
    // The first ten characters are the date.
    let date = |time| humantime::format_rfc3339_seconds(time).to_string()[..10].to_owned();
    if now > dates.not_after {
        return Some(format!("--tls-cert '{path}' has expired on {}", date(dates.not_after)));
    }
    (now < dates.not_before).then(|| format!("--tls-cert '{path}' is not valid before {}", date(dates.not_before)))
}
