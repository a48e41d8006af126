//! Units end, well or not, and what they have done is there.

use atalaya_core::update::assess::Mode;
use atalaya_core::update::machine::{Event, Work};
use atalaya_core::update::record::Slot;
use atalaya_core::update::task::{Outcome, Rules, Source, Staged};

use crate::acts::Quality;
use crate::fixtures::{copied, staged};
use crate::outside::{LOADER, SIZE};
use crate::world::{Waiting, World, failure, refusal};

impl World {
    pub fn answer(&mut self, which: usize, luck: u8) {
        while self.machine.as_ref().is_some_and(|m| !m.todo.is_empty()) {
            self.execute();
        }
        let Some(machine) = self.machine.as_mut() else {
            return;
        };
        if machine.waiting.is_empty() {
            return;
        }
        let which = which % machine.waiting.len();
        let waiting = machine.waiting.remove(which);
        let quality = self.outside.versions[machine.version].quality;
        let is_trial = matches!(machine.mode, Mode::Trial { .. }) && !machine.released;
        let is_well = luck > 20;
        match waiting {
            Waiting::Stop if is_well => self.event(Event::Stopped(Ok(vec!["eth0".to_owned()]))),
            Waiting::Stop => self.event(Event::Stopped(Err(failure("postgres hangs")))),
            Waiting::Ready if is_trial && quality == Quality::Hangs => self.cut(luck),
            Waiting::Ready if is_well => self.event(Event::Ready),
            Waiting::Ready if is_trial => self.event(Event::Broken(failure("not ready"))),
            // Units are started again until they are.
            Waiting::Ready => self.machine.as_mut().unwrap().waiting.push(Waiting::Ready),
            Waiting::Unit(Work::Probe, _) => {
                let is_bad = is_trial && quality == Quality::Failing;
                let result = if is_well && !is_bad {
                    Ok(())
                } else {
                    Err(failure("no post goes through"))
                };
                self.event(Event::Probed(result));
            }
            Waiting::Unit(Work::Copy(copy), _) => {
                let outcome = if is_well {
                    self.outside.copy(&copy);
                    Outcome::Done(copied())
                } else {
                    self.outside.copy_in_part(&copy, luck);
                    Outcome::Refused(refusal("no space"))
                };
                self.event(Event::Copied(outcome));
            }
            Waiting::Unit(Work::Drop(drop), _) => {
                for number in drop.generations {
                    self.outside.generations.remove(&number);
                }
            }
            Waiting::Unit(Work::Esp(esp), _) => {
                let cut = (!is_well).then_some(luck);
                let outcome = match self.outside.write_entries(&esp, cut) {
                    Ok(report) if is_well => Outcome::Done(report),
                    Ok(_) => Outcome::Refused(refusal("an error of the disk")),
                    Err(error) => Outcome::Refused(refusal(&error)),
                };
                self.event(Event::Entries(outcome));
            }
            Waiting::Unit(Work::Install { source, slot, .. }, rules) => {
                self.installed(&source, slot, &rules.unwrap(), is_well);
            }
        }
    }

    /// What the verification would say, and what is in the slot then.
    pub fn installed(&mut self, source: &Source, slot: Slot, rules: &Rules, is_well: bool) {
        let (Source::Http(name) | Source::File(name) | Source::Usb(name)) = source;
        let mut versions = self.outside.versions.iter();
        let version = versions.find(|v| v.image.root_hash == *name).unwrap();
        let is_refused = version.image.epoch < rules.epoch_floor
            || version.image.root_hash == rules.running.root_hash
            || (rules.quarantine.contains(name) && !rules.allow_quarantined);
        let outcome = if is_refused {
            Outcome::Refused(refusal("the rules"))
        } else if is_well {
            let staged = Staged {
                image: version.image.clone(),
                key_set: version.key_set,
                loader: LOADER.to_owned(),
                ..staged()
            };
            let uki = version.image.uki.clone();
            self.outside.put(slot, Some(name.clone()));
            self.outside.ukis.insert(uki, SIZE);
            Outcome::Done(staged)
        } else {
            self.outside.put(slot, None);
            Outcome::Refused(refusal("a block is not what it should be"))
        };
        let machine = self.machine.as_ref().unwrap();
        let other = self.outside.other(machine.slot);
        self.event(Event::Installed(outcome, other));
    }
}
