//! Defaults of the keys that the appliance sets or that clients ask for: the vendor's documented values.

use serde_json::{Value, json};

/// The whole default configuration. A key that is not here can't be set from the environment.
pub fn defaults() -> Value {
    json!({
        "ServiceSettings": {
            "SiteURL": "", "ListenAddress": ":8065", "ConnectionSecurity": "", "UseLetsEncrypt": false,
            "Forward80To443": false, "TLSStrictTransport": false, "TrustedProxyIPHeader": [],
            "ReadTimeout": 300, "WriteTimeout": 300, "IdleTimeout": 60, "MaximumLoginAttempts": 10,
            "EnableLocalMode": false, "LocalModeSocketLocation": "/var/tmp/mattermost_local.socket",
            "AllowCorsFrom": "", "EnableDeveloper": false, "EnableTesting": false,
            "EnableMultifactorAuthentication": false, "EnableUserAccessTokens": false,
            "EnableBotAccountCreation": false, "EnableSecurityFixAlert": true, "EnableLinkPreviews": true,
            "EnableGifPicker": true, "SessionLengthWebInHours": 720, "WebsocketURL": "",
            "EnableAPIUserDeletion": false, "EnableAPITeamDeletion": false, "EnableAPIChannelDeletion": false,
            "EnableAPIPostDeletion": false, "EnablePostSearch": true, "CollapsedThreads": "always_on",
            "ManagedResourcePaths": "", "EnableCustomEmoji": true, "EnableIncomingWebhooks": true,
            "EnableOutgoingWebhooks": true, "EnableCommands": true, "EnablePostUsernameOverride": false,
        },
        "TeamSettings": {
            "SiteName": "Mattermost", "MaxUsersPerTeam": 50, "EnableUserCreation": true, "EnableOpenServer": false,
            "EnableJoinLeaveMessageByDefault": true, "RestrictCreationToDomains": "", "CustomDescriptionText": "",
            "MaxChannelsPerTeam": 2000, "EnableCustomBrand": false, "CustomBrandText": "",
            "TeammateNameDisplay": "username",
        },
        "SqlSettings": {
            "DriverName": "postgres", "DataSource": "", "DataSourceReplicas": [], "DataSourceSearchReplicas": [],
            "MaxIdleConns": 50, "MaxOpenConns": 100, "ConnMaxLifetimeMilliseconds": 3_600_000,
            "ConnMaxIdleTimeMilliseconds": 300_000, "Trace": false, "AtRestEncryptKey": "", "QueryTimeout": 30,
            "DisableDatabaseSearch": false,
        },
        "LogSettings": {
            "EnableConsole": true, "ConsoleLevel": "DEBUG", "ConsoleJson": true, "EnableFile": true,
            "FileLevel": "INFO", "FileJson": true, "FileLocation": "", "EnableSentry": true,
            "EnableDiagnostics": true, "EnableWebhookDebugging": true,
        },
        "PasswordSettings": {
            "MinimumLength": 8, "Lowercase": false, "Number": false, "Uppercase": false, "Symbol": false,
        },
        "FileSettings": {
            "EnableFileAttachments": true, "EnableMobileUpload": true, "EnableMobileDownload": true,
            "MaxFileSize": 104_857_600, "DriverName": "local", "Directory": "./data/", "EnablePublicLink": false,
            "PublicLinkSalt": "", "ExtractContent": true, "AmazonS3SecretAccessKey": "",
        },
        "EmailSettings": {
            "EnableSignUpWithEmail": true, "EnableSignInWithEmail": true, "EnableSignInWithUsername": true,
            "SendEmailNotifications": false, "RequireEmailVerification": false, "FeedbackEmail": "",
            "SMTPServer": "localhost", "SMTPPort": "10025", "SMTPUsername": "", "SMTPPassword": "",
            "SendPushNotifications": true, "PushNotificationServer": "", "EnablePreviewModeBanner": true,
        },
        "RateLimitSettings": {"Enable": false, "PerSec": 10, "MaxBurst": 100, "MemoryStoreSize": 10_000},
        "PrivacySettings": {"ShowEmailAddress": true, "ShowFullName": true},
        "SupportSettings": {"TermsOfServiceLink": "", "PrivacyPolicyLink": "", "SupportEmail": ""},
        "AnnouncementSettings": {
            "EnableBanner": false, "BannerText": "", "AdminNoticesEnabled": true, "UserNoticesEnabled": true,
            "NoticesURL": "",
        },
        "LocalizationSettings": {"DefaultServerLocale": "en", "DefaultClientLocale": "en", "AvailableLocales": ""},
        "JobSettings": {
            "RunJobs": true, "RunScheduler": true, "CleanupJobsThresholdDays": -1,
            "CleanupConfigThresholdDays": -1,
        },
        "PluginSettings": {
            "Enable": true, "EnableUploads": false, "Directory": "./plugins",
            "ClientDirectory": "./client/plugins", "Plugins": {}, "PluginStates": {}, "EnableMarketplace": true,
            "EnableRemoteMarketplace": true, "AutomaticPrepackagedPlugins": true,
        },
        "ImageProxySettings": {"Enable": false, "ImageProxyType": "local"},
        "ComplianceSettings": {"Enable": false, "Directory": "./data/"},
        "MetricsSettings": {"Enable": false, "ListenAddress": ":8067"},
        "ExportSettings": {"Directory": "./export", "RetentionDays": 30},
        "ImportSettings": {"Directory": "./import", "RetentionDays": 30},
        "FeatureFlags": {},
    })
}
