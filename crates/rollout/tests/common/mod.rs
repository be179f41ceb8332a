//! The tutorial's plan, and a small seeded generator.

use rollout::{Gate, Plan, Share, Step};

pub fn gate(message: &str) -> Option<Gate> {
    Some(Gate { message: message.to_owned(), ok: format!("Ok, {message}"), commands: Vec::new() })
}

pub fn tutorial() -> Plan {
    Plan {
        service: "world".to_owned(),
        entry: "/host/world".to_owned(),
        live: "/srv".to_owned(),
        marker: "/tmp".to_owned(),
        test: "integration testing".to_owned(),
        test_gate: gate("I'm done with manual testing"),
        steps: vec![
            Step {
                stage: "shift traffic (10%)".to_owned(),
                share: Share::Weights { new: 1.0, current: 9.0 },
                gate: gate("success rates look stable"),
            },
            Step {
                stage: "shift traffic (100%)".to_owned(),
                share: Share::Failover,
                gate: gate("everything looks good"),
            },
        ],
    }
}

/// splitmix64.
#[allow(dead_code)]
pub struct Random(pub u64);

#[allow(dead_code)]
impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}
