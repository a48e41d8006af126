//! The way in for the appliance's own probe, open while the edge is closed: a local socket, never a header. The kernel says who asks; behind
//! it everything is as a user has it, TLS included.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::User;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::json;
use tokio::net::UnixListener;
use tokio_rustls::TlsAcceptor;

use crate::connections::{Client, Door};
use crate::proxy::Proxy;
use crate::server::{Context, serve_tls};
use crate::tls::serving::{Serving, Source};

/// The probe's user, beside root.
const PROBE: &str = "atalaya-probe";

#[derive(Debug, thiserror::Error)]
#[error("failed to open the probe's socket {path}")]
pub struct DoorError {
    path: PathBuf,
    source: std::io::Error,
}

/// Its certificate is the internal authority's, which the probe trusts whatever is served to users; the one that is served where there is no
/// other.
#[derive(Debug)]
pub struct InternalFirst(pub Arc<Serving>);

impl ResolvesServerCert for InternalFirst {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0
            .offered(Source::Internal)
            .or_else(|| self.0.resolve(hello))
    }
}

/// Makes the socket under another name and moves it into place: a former run's is replaced at once and its connections go on. Never removed,
/// because a later run may have made its own.
pub fn bind(path: &Path) -> Result<UnixListener, DoorError> {
    let failed = |source| DoorError {
        path: path.to_owned(),
        source,
    };
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let listener = UnixListener::bind(&new).map_err(failed)?;
    // Anybody may knock: who comes in is asked of the kernel, because this process may not give a file to another user.
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o666))
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(failed)?;
    Ok(listener)
}

/// Serves until the edge stops.
pub async fn serve(
    mut context: Context,
    listener: UnixListener,
    tls: TlsAcceptor,
    proxy: Arc<Proxy>,
) {
    let probe = User::from_name(PROBE)
        .ok()
        .flatten()
        .map(|user| user.uid.as_raw());
    loop {
        let accepted = tokio::select! {
            _ending = context.drain.begun() => return,
            accepted = listener.accept() => accepted,
        };
        let uid = accepted
            .as_ref()
            .ok()
            .and_then(|(stream, _)| stream.peer_cred().ok())
            .map(|peer| peer.uid());
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: a little later there may be some.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        if !may_enter(uid, probe) {
            let details = json!({ "uid": uid });
            let message = "somebody else knocked at the probe's socket";
            context.log.event("warn", message, details);
            continue;
        }
        // Not held up by users, however many there are.
        let Some(place) = context.connections.take(usize::MAX) else {
            continue;
        };
        let client = Client {
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            door: Door::Probe,
            tls: "",
            trusted: false,
            drain: context.drain.clone(),
            _place: place,
            _share: None,
        };
        let limits = context.settings.load().limits.clone();
        let (context, tls, proxy) = (context.clone(), tls.clone(), Arc::clone(&proxy));
        tokio::spawn(async move {
            serve_tls(context, &limits, client, stream, tls, proxy).await;
        });
    }
}

fn may_enter(uid: Option<u32>, probe: Option<u32>) -> bool {
    uid.is_some_and(|uid| uid == 0 || Some(uid) == probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_probe_come_in_and_nobody_else() {
        for (uid, probe, enters) in [
            (Some(0), Some(207), true),
            (Some(207), Some(207), true),
            (Some(33), Some(207), false),
            (Some(33), None, false),
            (None, None, false),
            (None, Some(0), false),
        ] {
            assert_eq!(may_enter(uid, probe), enters, "{uid:?} {probe:?}");
        }
    }
}
