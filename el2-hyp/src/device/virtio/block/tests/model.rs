//! Any requests, in any order, with completions in any other: the disk is an array of bytes.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::scene::*;
use crate::addr::Ipa;
use crate::device::virtio::Served;
use crate::device::virtio::testing::Buffer;

const SECTORS: u64 = 256;
const FIRST: u64 = 24;
/// Sectors of data of a request.
const MOST: u64 = 20;

#[derive(Clone, Debug)]
enum Act {
    /// Read or write: first sector, how many, where the data is cut, the data.
    Transfer(bool, u64, u64, Vec<u16>, u8),
    Flush,
    Serve(u32),
    /// Complete one of those that are pending, well or not.
    Complete(usize, bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (any::<bool>(), 0..SECTORS, 1..MOST, prop::collection::vec(0..4096_u16, 0..5), any::<u8>())
            .prop_map(|(write, first, sectors, cuts, byte)| {
                Act::Transfer(write, first, sectors.min(SECTORS - first), cuts, byte)
            }),
        1 => Just(Act::Flush),
        2 => (0..4_u32).prop_map(Act::Serve),
        3 => (0..16_usize, prop::bool::weighted(0.9)).prop_map(|(n, ok)| Act::Complete(n, ok)),
    ]
}

/// A transfer that was asked for.
struct Asked {
    status: Ipa,
    write: bool,
    first: usize,
    data: Vec<Buffer>,
    bytes: Vec<u8>,
}

struct Run {
    scene: Scene,
    model: Vec<u8>,
    asked: Vec<Asked>,
    next_data: u64,
}

impl Run {
    fn new(scene: Scene) -> Self {
        Self {
            scene,
            model: vec![0; SECTORS as usize * 512],
            asked: Vec::new(),
            next_data: DATA,
        }
    }

    /// Cuts `length` bytes of data into buffers that lie apart.
    fn buffers(&mut self, length: usize, cuts: &[u16]) -> Vec<Buffer> {
        let mut cuts: Vec<usize> = cuts.iter().map(|&cut| cut as usize % length).collect();
        cuts.extend([0, length]);
        cuts.sort_unstable();
        let mut buffers = Vec::new();
        for pair in cuts.windows(2) {
            let bytes = (pair[1] - pair[0]) as u64;
            buffers.push((self.scene.at(self.next_data), bytes as u32));
            self.next_data += bytes + 3;
        }
        buffers
    }

    fn transfer(&mut self, write: bool, first: u64, sectors: u64, cuts: &[u16], byte: u8) {
        let length = sectors as usize * 512;
        if self.scene.driver.free() < cuts.len() + 3 {
            return;
        }
        let data = self.buffers(length, cuts);
        let bytes: Vec<u8> = (0..length).map(|n| byte.wrapping_add(n as u8)).collect();
        let mut rest = &bytes[..];
        for &(at, length) in data.iter().filter(|_| write) {
            let (now, later) = rest.split_at(length as usize);
            self.scene.ram.write(at, now).unwrap();
            rest = later;
        }
        let kind = if write { OUT } else { IN };
        let status = self.scene.ask(kind, first, &data);
        let first = first as usize * 512;
        self.asked.push(Asked {
            status,
            write,
            first,
            data,
            bytes,
        });
    }

    /// What has been answered since is as the model says.
    fn check(&mut self) {
        while self.scene.driver.take(&self.scene.ram).is_some() {}
        let (scene, model) = (&self.scene, &mut self.model);
        self.asked.retain(|asked| {
            let status = scene.bytes(asked.status, 1)[0];
            let there = &mut model[asked.first..][..asked.bytes.len()];
            match status {
                UNTOLD => return true,
                OK if asked.write => there.copy_from_slice(&asked.bytes),
                OK => {
                    let read: Vec<u8> = asked
                        .data
                        .iter()
                        .flat_map(|&(at, length)| scene.bytes(at, length as usize))
                        .collect();
                    assert!(read == there, "a read at {}", asked.first);
                }
                FAILED => {}
                other => panic!("status {other}"),
            }
            false
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_local_disk_is_an_array(acts in prop::collection::vec(act(), 1..60)) {
        let mut run = Run::new(Scene::local(FIRST, SECTORS));
        for act in acts {
            match act {
                Act::Transfer(write, first, sectors, cuts, byte) => {
                    run.transfer(write, first, sectors, &cuts, byte);
                }
                Act::Flush if run.scene.driver.free() >= 2 => {
                    run.scene.ask(FLUSH, 0, &[]);
                }
                Act::Flush => {}
                Act::Serve(budget) => {
                    let _ = run.scene.block.serve(&run.scene.ram, &run.scene.signals, &mut run.scene.disk, budget);
                }
                Act::Complete(index, ok) if !run.scene.disk.pending.is_empty() => {
                    let index = index % run.scene.disk.pending.len();
                    run.scene.complete(index, ok);
                }
                Act::Complete(..) => {}
            }
            run.check();
        }
        while run.scene.serve() != Served::Rest || !run.scene.disk.pending.is_empty() {
            run.scene.complete_all();
            run.check();
        }
        run.check();
        prop_assert!(run.asked.is_empty());
        prop_assert_eq!(run.scene.block.in_flight(), 0);
        let extent = FIRST as usize * 512..(FIRST + SECTORS) as usize * 512;
        prop_assert!(run.scene.disk.bytes[extent.clone()] == run.model);
        prop_assert!(run.scene.disk.bytes[..extent.start].iter().all(|&byte| byte == 0));
        prop_assert!(run.scene.disk.bytes[extent.end..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn an_ephemeral_disk_is_an_array(acts in prop::collection::vec(act(), 1..60)) {
        let mut run = Run::new(Scene::ephemeral(&[], SECTORS));
        for act in acts {
            if let Act::Transfer(write, first, sectors, cuts, byte) = act {
                run.transfer(write, first, sectors, &cuts, byte);
                // In between, with nothing lost by it.
                while run.scene.block.serve(&run.scene.ram, &run.scene.signals, &mut run.scene.disk, 1) == Served::More {}
                run.check();
            }
        }
        prop_assert!(run.asked.is_empty());
    }
}
