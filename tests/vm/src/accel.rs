//! Which accelerator to use. KVM only where it really works: a container can hold a `/dev/kvm` that opens and creates
//! machines although the processor offers no virtualisation; guests then hang.

use std::fs::{self, OpenOptions};

/// How QEMU executes the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's own translator: works everywhere, about ten times slower.
    Tcg,
}

/// An accelerator and the reason for it, in words for one line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccelChoice {
    /// The choice.
    pub accel: Accel,
    /// Why.
    pub reason: &'static str,
}

/// Looks at this machine and chooses.
#[must_use]
pub fn detect_accel() -> AccelChoice {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let opens = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    assess(&cpuinfo, opens)
}

fn assess(cpuinfo: &str, kvm_opens: bool) -> AccelChoice {
    let (accel, reason) = match (lists_virtualisation(cpuinfo), kvm_opens) {
        (true, true) => (
            Accel::Kvm,
            "the processor lists vmx or svm and /dev/kvm opens",
        ),
        (true, false) => (Accel::Tcg, "/dev/kvm does not open"),
        (false, _) => (Accel::Tcg, "the processor lists neither vmx nor svm"),
    };
    AccelChoice { accel, reason }
}

fn lists_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim() == "flags")
        .any(|(_, flags)| {
            flags
                .split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_openable_kvm_without_the_cpu_flag_is_not_taken() {
        let choice = assess("processor : 0\nflags\t\t: fpu vme sse2 hypervisor\n", true);
        assert_eq!(choice.accel, Accel::Tcg);
    }

    #[test]
    fn kvm_needs_flag_and_device() {
        let cpuinfo = "model name : x\nflags : fpu svm sse2\n";
        assert_eq!(assess(cpuinfo, true).accel, Accel::Kvm);
        assert_eq!(assess(cpuinfo, false).accel, Accel::Tcg);
    }

    #[test]
    fn a_flag_is_a_whole_word_of_the_flags_line() {
        assert!(!lists_virtualisation(
            "model name : vmx edition\nflags : vmxoff xsvm\n"
        ));
    }
}
