//! What is counted, with what it may be and what the peers' is.

/// What a figure may be.
#[derive(Clone, Copy)]
pub enum Bound {
    /// So much at most: less is better.
    Most(f64),
    /// So much at least: more is better.
    Least(f64),
}

/// A figure.
pub struct Figure {
    /// Its name, with its unit.
    pub key: &'static str,
    /// What it may be.
    pub bound: Bound,
    /// KVM (Linux 6.1, nVHE, with QEMU) on the same emulated board, where it was counted.
    pub kvm: Option<f64>,
    /// Xen 4.17, likewise.
    pub xen: Option<f64>,
    /// Digits behind the point.
    digits: usize,
}

impl Figure {
    /// Whether the value is within the budget. What is no number is not.
    pub fn is_met(&self, value: f64) -> bool {
        match self.bound {
            Bound::Most(most) => value <= most,
            Bound::Least(least) => value >= least,
        }
    }

    /// Of two values the worse.
    pub fn worse(&self, one: f64, other: f64) -> f64 {
        match self.bound {
            Bound::Most(_) => one.max(other),
            Bound::Least(_) => one.min(other),
        }
    }

    /// Its bound as it is printed.
    pub fn show_bound(&self) -> String {
        match self.bound {
            Bound::Most(most) => self.show(most),
            Bound::Least(least) => format!(">= {}", self.show(least)),
        }
    }

    /// A value as it is printed.
    pub fn show(&self, value: f64) -> String {
        format!("{value:.*}", self.digits)
    }
}

const fn figure(key: &'static str, most: f64, digits: usize) -> Figure {
    Figure {
        key,
        bound: Bound::Most(most),
        kvm: None,
        xen: None,
        digits,
    }
}

const fn at_least(key: &'static str, least: f64) -> Figure {
    let mut figure = figure(key, least, 3);
    figure.bound = Bound::Least(least);
    figure
}

const fn peers(mut figure: Figure, kvm: f64, xen: f64) -> Figure {
    figure.kvm = Some(kvm);
    figure.xen = Some(xen);
    figure
}

const fn kvm(mut figure: Figure, kvm: f64) -> Figure {
    figure.kvm = Some(kvm);
    figure
}

/// The figures of `bench boot`, in the order in which they are printed. The peers' `timer` is how late the interrupted code
/// goes on, which is a little more than how late its handler runs; a trapped UART is KVM's user-space device and Xen's own.
pub const BOOT: [Figure; 14] = [
    peers(figure("hvc_instructions", 200.0, 1), 1515.0, 482.0),
    peers(figure("vgic_mmio_instructions", 350.0, 1), 2340.0, 597.0),
    peers(figure("uart_instructions", 300.0, 1), 7450.0, 636.0),
    peers(figure("ipi_instructions", 1200.0, 1), 5940.0, 2175.0),
    figure("ipi_wfi_instructions", 2000.0, 1),
    peers(figure("timer_instructions", 600.0, 1), 5840.0, 1057.0),
    figure("timer_wfi_instructions", 900.0, 1),
    peers(figure("boot_ratio", 1.003, 5), 1.048, 1.026),
    figure("boot_console_ratio", 1.01, 5),
    figure("entry_to_guest_ms", 50.0, 3),
    figure("image_bytes", 1_048_576.0, 0),
    figure("board_memory_bytes", 16_777_216.0, 0),
    figure("idle_instructions_per_second", 200_000.0, 0),
    figure("fairness_deviation_points", 2.0, 3),
];

/// The figures of `bench io`: what EL2 itself spends on a notification, a frame of 1,500 bytes, and a block of 4 KiB; and what Debian's
/// programs get of network and disks, as a ratio to what they get on the board without Hearth.
pub const IO: [Figure; 13] = [
    figure("virtio_exit_instructions", 500.0, 1),
    figure("frame_tx_instructions", 2000.0, 1),
    figure("frame_rx_instructions", 2500.0, 1),
    figure("frame_local_instructions", 2500.0, 1),
    figure("block_instructions", 3000.0, 1),
    at_least("net_boards", 0.7),
    at_least("net_client", 0.7),
    figure("ping_ratio", 1.5, 3),
    figure("ping_ratio_no_kpti", 1.5, 3),
    at_least("blk_seq_read", 0.7),
    at_least("blk_seq_write", 0.7),
    at_least("blk_rand_read", 0.7),
    at_least("blk_rand_write", 0.7),
];

/// The figures of `bench migrate`. The peers' are KVM's with QEMU at its defaults but for an unlimited bandwidth, counted on the same emulated board: the busy guest's.
pub const MIGRATE: [Figure; 10] = [
    figure("downtime_idle_ms", 10.0, 3),
    kvm(figure("downtime_busy_ms", 25.0, 3), 66.0),
    kvm(figure("total_ms", 700.0, 1), 760.0),
    figure("wire_ratio", 1.1, 4),
    figure("fault_instructions", 1500.0, 1),
    at_least("tracking_ratio", 0.8),
    figure("track_start_us", 500.0, 0),
    figure("pack_instructions", 110_000.0, 0),
    figure("send_instructions", 60_000.0, 0),
    figure("pack_ratio", 0.6, 3),
];

/// Those of [`IO`] that are ratios.
pub const RATIOS: &[Figure] = IO.split_at(5).1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_met_up_to_its_last_digit() {
        let figure = figure("x", 1.003, 5);
        assert!(figure.is_met(1.003));
        assert!(!figure.is_met(1.003_01));
        assert!(!figure.is_met(f64::NAN));
        assert_eq!(figure.show(1.0), "1.00000");
        let ratio = at_least("y", 0.7);
        assert!(ratio.is_met(0.7) && !ratio.is_met(0.699) && !ratio.is_met(f64::NAN));
        assert_eq!(
            (ratio.worse(0.5, 0.9), ratio.show_bound()),
            (0.5, ">= 0.700".into())
        );
    }
}
