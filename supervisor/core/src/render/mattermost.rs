//! Mattermost's environment: only the keys that the appliance owns, shown as such in its System Console.
//!
//! Everything else lives in its database, where an administrator changes it. No secret may stand here: plugins inherit
//! the environment. No map either: one from the environment replaces the whole map.

use crate::appliance::SiteAddress;
use crate::appliance::edge::{Csp, Edge};

use super::Sizes;

/// The connection that the kernel vouches for: no password.
const DATA_SOURCE: &str =
    "postgres:///mattermost?host=/run/postgresql&user=mattermost&sslmode=disable";

pub(super) fn env(site: &SiteAddress, edge: &Edge, sizes: &Sizes) -> String {
    let site = site.to_string();
    let max_file_size = (edge.upload_mib * super::MIB).to_string();
    let frame_ancestors = edge.frame_ancestors.join(" ");
    let max_open = sizes.max_open_conns.to_string();
    let max_idle = sizes.max_idle_conns.to_string();
    let lines: &[(&str, &str)] = &[
        // The configuration is a row in the database, first filled from the release's own file: the file would be cut
        // to nothing and written anew at each start, which a power cut does not survive.
        ("MM_CONFIG", DATA_SOURCE),
        (
            "MM_CUSTOM_DEFAULTS_PATH",
            "/opt/mattermost/config/config.json",
        ),
        ("TMPDIR", "/var/lib/mattermost/tmp"),
        ("TZ", "UTC"),
        ("MM_SERVICESETTINGS_SITEURL", &site),
        ("MM_SERVICESETTINGS_LISTENADDRESS", "127.0.0.1:8065"),
        // TLS ends in the edge.
        ("MM_SERVICESETTINGS_CONNECTIONSECURITY", ""),
        ("MM_SERVICESETTINGS_USELETSENCRYPT", "false"),
        ("MM_SERVICESETTINGS_FORWARD80TO443", "false"),
        ("MM_SERVICESETTINGS_TLSSTRICTTRANSPORT", "false"),
        ("MM_SERVICESETTINGS_TRUSTEDPROXYIPHEADER", "X-Forwarded-For"),
        // Seconds. A 100 MiB file over a slow line takes longer than the default 300.
        ("MM_SERVICESETTINGS_READTIMEOUT", "3600"),
        ("MM_SERVICESETTINGS_WRITETIMEOUT", "3600"),
        ("MM_SERVICESETTINGS_IDLETIMEOUT", "300"),
        ("MM_SERVICESETTINGS_ENABLELOCALMODE", "true"),
        (
            "MM_SERVICESETTINGS_LOCALMODESOCKETLOCATION",
            "/run/mattermost/local.socket",
        ),
        ("MM_SERVICESETTINGS_ALLOWCORSFROM", ""),
        ("MM_SERVICESETTINGS_FRAMEANCESTORS", &frame_ancestors),
        ("MM_SERVICESETTINGS_ENABLEDEVELOPER", "false"),
        ("MM_SERVICESETTINGS_ENABLEMULTIFACTORAUTHENTICATION", "true"),
        ("MM_SQLSETTINGS_DRIVERNAME", "postgres"),
        ("MM_SQLSETTINGS_DATASOURCE", DATA_SOURCE),
        ("MM_SQLSETTINGS_MAXOPENCONNS", &max_open),
        ("MM_SQLSETTINGS_MAXIDLECONNS", &max_idle),
        ("MM_FILESETTINGS_DRIVERNAME", "local"),
        ("MM_FILESETTINGS_DIRECTORY", "/var/lib/mattermost/files/"),
        ("MM_FILESETTINGS_MAXFILESIZE", &max_file_size),
        ("MM_PLUGINSETTINGS_DIRECTORY", "/var/lib/mattermost/plugins"),
        (
            "MM_PLUGINSETTINGS_CLIENTDIRECTORY",
            "/var/lib/mattermost/client-plugins",
        ),
        ("MM_LOGSETTINGS_ENABLECONSOLE", "true"),
        ("MM_LOGSETTINGS_CONSOLELEVEL", "INFO"),
        ("MM_LOGSETTINGS_CONSOLEJSON", "true"),
        ("MM_LOGSETTINGS_ENABLEFILE", "false"),
        ("MM_NOTIFICATIONLOGSETTINGS_ENABLEFILE", "false"),
        // The default, 50, stops the fifty-first colleague.
        ("MM_TEAMSETTINGS_MAXUSERSPERTEAM", "1000"),
        // Old configurations are rows of the database and would pile up.
        ("MM_JOBSETTINGS_CLEANUPCONFIGTHRESHOLDDAYS", "30"),
        // There is no mail server yet.
        ("MM_EMAILSETTINGS_SENDEMAILNOTIFICATIONS", "false"),
        ("MM_EMAILSETTINGS_REQUIREEMAILVERIFICATION", "false"),
        // Nothing leaves the machine by itself.
        ("MM_EMAILSETTINGS_SENDPUSHNOTIFICATIONS", "false"),
        ("MM_SERVICESETTINGS_ENABLESECURITYFIXALERT", "false"),
        ("MM_SERVICESETTINGS_ENABLELINKPREVIEWS", "false"),
        ("MM_SERVICESETTINGS_ENABLEGIFPICKER", "false"),
        ("MM_PLUGINSETTINGS_ENABLEREMOTEMARKETPLACE", "false"),
        ("MM_LOGSETTINGS_ENABLEDIAGNOSTICS", "false"),
        ("MM_LOGSETTINGS_ENABLESENTRY", "false"),
        ("MM_ANNOUNCEMENTSETTINGS_ADMINNOTICESENABLED", "false"),
        ("MM_ANNOUNCEMENTSETTINGS_USERNOTICESENABLED", "false"),
    ];
    // The strict policy lets no picture of another host through: Mattermost fetches them itself.
    let image_proxy: &[(&str, &str)] = match edge.csp {
        Csp::Strict => &[
            ("MM_IMAGEPROXYSETTINGS_ENABLE", "true"),
            ("MM_IMAGEPROXYSETTINGS_IMAGEPROXYTYPE", "local"),
        ],
        Csp::Default | Csp::Off => &[],
    };
    lines
        .iter()
        .chain(image_proxy)
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect()
}
