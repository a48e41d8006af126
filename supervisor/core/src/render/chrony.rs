//! chrony's settings. No server is named here: the appliance asks nobody that the network or the administrator did not
//! name. Sources are read from a directory, so that naming one later needs no restart.

pub(super) fn conf() -> String {
    "# Rendered at boot. Changes here are lost.
sourcedir /run/atalaya/chrony-sources
driftfile /var/lib/chrony/drift
dumpdir /var/lib/chrony
# A machine that was off for a year must not crawl towards the truth; later on the clock never jumps.
makestep 1.0 3
rtcsync
# Serves no time and takes commands only on its own socket.
port 0
cmdport 0
bindcmdaddress /run/chrony/chronyd.sock
"
    .to_owned()
}
