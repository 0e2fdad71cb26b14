//! What the options of `serve` ask for, checked.

use std::net::IpAddr;
use std::time::Duration;
use std::{fs, path::Path};

use crate::failure::Failure;
use crate::serve::connections::tls::Tls;
use crate::serve::requests::cors::Cors;
use crate::serve::tracing::otlp::Collector;
use crate::serve_options::ServeOptions;
use crate::terminal;

/// A token is compared as a whole, so it is kept as bytes.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) host: String,
    pub(crate) token: Option<Vec<u8>>,
    pub(crate) tls: Option<Tls>,
    pub(crate) cors: Cors,
    pub(crate) collector: Option<Collector>,
    pub(crate) max_in_flight: usize,
    pub(crate) max_sessions: usize,
    pub(crate) max_body: usize,
    pub(crate) request_timeout: Duration,
}

impl Settings {
    pub(crate) fn of(options: &ServeOptions) -> Result<Self, Failure> {
        let token = options.access.token_file.as_deref().map(read_token).transpose()?;
        if token.is_none() && !options.access.insecure && !is_loopback(&options.host) {
            return Err(Failure::usage(format!(
                "--host {} lets other machines use the pipeline; add --token-file FILE, so that they need a token, \
                 or --insecure",
                options.host
            )));
        }
        let cors = Cors::of(&options.access.cors_origin, token.is_some() || options.access.insecure)?;
        Ok(Self {
            host: options.host.clone(),
            token,
            tls: Tls::read(&options.tls)?,
            cors,
            collector: options.log.otlp.as_deref().map(Collector::of).transpose()?,
            max_in_flight: options.limits.max_in_flight,
            max_sessions: options.limits.max_sessions,
            max_body: options.limits.max_body,
            request_timeout: Duration::from_secs_f64(options.limits.request_timeout),
        })
    }
}

impl Settings {
    /// Whether only its owner, or those who have the token, use the service.
    pub(crate) fn is_private(&self) -> bool {
        self.token.is_some() || is_loopback(&self.host)
    }
}

/// Whether only programs of this machine reach a host.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn read_token(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = fs::read(path).map_err(|error| {
        Failure::usage(format!("cannot read --token-file '{}': {}", path.display(), terminal::reason(&error)))
    })?;
    let token = read.trim_ascii();
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(Failure::usage(format!(
            "--token-file '{}' must contain one token of visible ASCII characters, such as the output of: \
             openssl rand -hex 32",
            path.display()
        )));
    }
    Ok(token.to_vec())
}
