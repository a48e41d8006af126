//! A firmware's variables, and keys and signatures as Debian's own tools make them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use atalaya_update::install::secure_boot::SecureBoot;
use atalaya_vm::ToolsTree;
use tempfile::TempDir;

const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const DATABASE: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";

/// UEFI 2.11, section 32.4.1, as the bytes lie in a variable.
pub const X509: [u8; 16] = *b"\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72";
pub const SHA256: [u8; 16] = *b"\x26\x16\xc4\xc1\x4c\x50\x92\x40\xac\xa9\x41\xf9\x36\x93\x43\x28";
pub const SHA1: [u8; 16] = *b"\x12\xa5\x6c\x82\x10\xcf\xc9\x4a\xb1\x87\xbe\x01\x49\x66\x31\xbd";
pub const X509_SHA256: [u8; 16] =
    *b"\x92\xa4\xd2\x3b\xc0\x96\x79\x40\xb4\x20\xfc\xf9\x8e\xf1\x03\xed";

/// An EFI_SIGNATURE_LIST.
pub fn list(kind: [u8; 16], entries: &[Vec<u8>]) -> Vec<u8> {
    let each = 16 + entries[0].len();
    let mut list = kind.to_vec();
    list.extend((28 + entries.len() as u32 * each as u32).to_le_bytes());
    list.extend(0_u32.to_le_bytes());
    list.extend((each as u32).to_le_bytes());
    for entry in entries {
        assert_eq!(16 + entry.len(), each);
        list.extend(b"whose entry it is"[..16].iter());
        list.extend(entry);
    }
    list
}

pub struct Workshop {
    folder: TempDir,
    tools: ToolsTree,
}

impl Workshop {
    pub fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cache = std::env::var_os("ATALAYA_CACHE")
            .filter(|path| !path.is_empty())
            .map_or_else(|| PathBuf::from("cache"), PathBuf::from);
        let workshop = Self {
            folder: tempfile::tempdir().unwrap(),
            tools: ToolsTree::at(root.join(cache).join("tools"))
                .unwrap_or_else(|error| panic!("no tools tree (`make image` makes it): {error}")),
        };
        let settings = "[req]\ndistinguished_name = name\nprompt = no\n[name]\n";
        workshop.lay("openssl.cnf", settings.as_bytes());
        workshop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn lay(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::File::create(&path).unwrap().write_all(content).unwrap();
        path
    }

    /// What it prints.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = self.tools.command(program).unwrap();
        self.finish(command.args(arguments))
    }

    fn finish(&self, command: &mut Command) -> String {
        let output = command
            .current_dir(self.folder.path())
            .env("OPENSSL_CONF", self.path("openssl.cnf"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// NAME.key and NAME.crt; `more` are openssl's own words.
    pub fn make_key(&self, name: &str, issuer: Option<&str>, more: &[&str]) {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let subject = format!("/CN={name}");
        let mut words = vec!["req", "-x509", "-nodes", "-days", "3650", "-sha256"];
        if !more.contains(&"-newkey") {
            words.extend(["-newkey", "rsa:2048"]);
        }
        words.extend(["-keyout", &key, "-out", &certificate, "-subj", &subject]);
        let issuer = issuer.map(|name| (format!("{name}.crt"), format!("{name}.key")));
        if let Some((certificate, key)) = &issuer {
            words.extend(["-CA", certificate, "-CAkey", key]);
        }
        words.extend(more);
        self.run("openssl", &words);
    }

    pub fn make_authority(&self, name: &str, issuer: Option<&str>) {
        self.make_key(name, issuer, &["-addext", CA]);
    }

    /// The certificate as firmware knows it.
    pub fn certificate(&self, name: &str) -> Vec<u8> {
        let der = format!("{name}.der");
        let pem = format!("{name}.crt");
        self.run(
            "openssl",
            &["x509", "-in", &pem, "-outform", "DER", "-out", &der],
        );
        fs::read(self.path(&der)).unwrap()
    }

    /// The name of `image` signed; `beside` is a certificate that comes along.
    pub fn sign(&self, image: &str, key: &str, beside: Option<&str>) -> String {
        let signed = format!("{image}-{key}");
        let (secret, certificate) = (format!("{key}.key"), format!("{key}.crt"));
        let mut words = vec!["--key", &secret, "--cert", &certificate];
        let beside = beside.map(|name| format!("{name}.crt"));
        if let Some(beside) = &beside {
            words.extend(["--addcert", beside]);
        }
        words.extend(["--output", &signed, image]);
        self.run("sbsign", &words);
        signed
    }

    /// systemd-boot, as Debian has it.
    pub fn take_loader(&self, name: &str) {
        self.take("systemd-bootx64.efi", name);
    }

    fn take(&self, from: &str, name: &str) {
        let folder = self.tools.root().join("usr/lib/systemd/boot/efi");
        let file = fs::read(folder.join(from)).unwrap();
        self.lay(name, &file);
    }

    /// A unified kernel image, made as the pipeline makes one; its kernel is none.
    pub fn make_kernel_image(&self, name: &str, command_line: &str) {
        self.take("linuxx64.efi.stub", "stub");
        self.lay("linux", &[0x90; 70_000]);
        let mut command = Command::new("python3");
        command
            .arg(self.tools.root().join("usr/bin/ukify"))
            .env(
                "PYTHONPATH",
                self.tools.root().join("usr/lib/python3/dist-packages"),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args(["build", "--stub=stub", "--linux=linux", "--uname=1"])
            .arg("--os-release=ID=atalaya")
            .arg(format!("--cmdline={command_line}"))
            .arg(format!("--output={name}"));
        self.finish(&mut command);
    }

    /// The digest that firmware takes of it, by pesign.
    pub fn digest(&self, image: &str, kind: &str) -> Vec<u8> {
        let said = self.run("pesign", &["--hash", "--digest_type", kind, "--in", image]);
        let digits = said.split_whitespace().find(|word| word.len() >= 40);
        let digits = digits.unwrap_or_else(|| panic!("no digest in {said:?}"));
        (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }
}

/// An authority's certificate says so.
pub const CA: &str = "basicConstraints=critical,CA:TRUE";

/// Variables in a folder, as the kernel shows them.
pub struct Firmware(pub PathBuf);

impl Firmware {
    /// Secure Boot is on with these lists.
    pub fn new(folder: &Path, db: &[u8], dbx: &[u8]) -> Self {
        fs::create_dir_all(folder).unwrap();
        let firmware = Self(folder.to_owned());
        firmware.set_global("SecureBoot", &[1]);
        firmware.set_global("SetupMode", &[0]);
        firmware.set_lists("db", db);
        firmware.set_lists("dbx", dbx);
        firmware
    }

    pub fn set_global(&self, name: &str, value: &[u8]) {
        self.set(&format!("{name}-{GLOBAL}"), value);
    }

    pub fn set_lists(&self, name: &str, value: &[u8]) {
        self.set(&format!("{name}-{DATABASE}"), value);
    }

    fn set(&self, file: &str, value: &[u8]) {
        let mut file = fs::File::create(self.0.join(file)).unwrap();
        file.write_all(&[6, 0, 0, 0]).unwrap();
        file.write_all(value).unwrap();
    }

    pub fn remove(&self, name: &str) {
        for owner in [GLOBAL, DATABASE] {
            drop(fs::remove_file(self.0.join(format!("{name}-{owner}"))));
        }
    }

    /// What is said of an image: nothing, or why it would not start.
    pub fn verdict(&self, image: &Path) -> Result<(), String> {
        SecureBoot::read(&self.0)
            .unwrap()
            .expect("Secure Boot is on")
            .assess("image", image)
            .map_err(|failure| failure.told(false).what)
    }
}
