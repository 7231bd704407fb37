//! Links: latency and loss, each direction by itself.

use std::collections::BTreeMap;

use rand_pcg::Pcg64;

use super::{Address, Network};
use crate::rng::{Draw, stream};
use crate::runtime::seed;

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// The one-way delay of a message in microseconds, least and greatest.
    pub latency_us: [u64; 2],
    /// Messages lost in a thousand.
    pub loss_permille: u32,
}

struct Link {
    rng: Pcg64,
    weather: Option<Weather>,
    /// Messages sent in a weather of its own.
    weathered: u64,
}

/// What was drawn for one message: the same four numbers whatever becomes of it.
pub(super) struct Fate {
    /// Out of a thousand.
    pub(super) loss: u32,
    pub(super) latency_ns: u64,
    /// Out of a thousand.
    pub(super) duplicate: u32,
    /// The latency of the duplicate, if a fault makes one.
    pub(super) again_ns: u64,
}

/// All links of a network.
pub(super) struct Links {
    weather: Weather,
    links: BTreeMap<(Address, Address), Link>,
}

impl Links {
    pub(super) fn new(weather: Weather) -> Self {
        Links { weather, links: BTreeMap::new() }
    }

    fn link(&mut self, from: Address, to: Address) -> &mut Link {
        self.links.entry((from, to)).or_insert_with(|| Link {
            rng: stream(seed(), "link", from.code() << 32 | to.code()),
            weather: None,
            weathered: 0,
        })
    }

    pub(super) fn draw(&mut self, from: Address, to: Address) -> Fate {
        let fair = self.weather;
        let link = self.link(from, to);
        link.weathered += u64::from(link.weather.is_some());
        let [least, most] = link.weather.unwrap_or(fair).latency_us.map(|us| us * 1000);
        let rng = &mut link.rng;
        Fate {
            loss: rng.between(0, 999) as u32,
            latency_ns: rng.between(least, most.max(least)),
            duplicate: rng.between(0, 999) as u32,
            again_ns: rng.between(least, most.max(least)),
        }
    }

    pub(super) fn loses(&mut self, from: Address, to: Address, drawn: u32) -> bool {
        let fair = self.weather;
        drawn < self.link(from, to).weather.unwrap_or(fair).loss_permille
    }

    /// Takes every weather away but the common one.
    pub(super) fn calm(&mut self) {
        self.links.values_mut().for_each(|link| link.weather = None);
    }
}

impl Network {
    /// The weather on every link that has none of its own.
    pub fn set_weather(&self, weather: Weather) {
        self.shared.lock().links.weather = weather;
    }

    /// How many messages were sent to somebody on links that had a weather of their own.
    pub fn weathered(&self, to: Address) -> u64 {
        let state = self.shared.lock();
        state.links.links.iter().filter(|((_, at), _)| *at == to).map(|(_, link)| link.weathered).sum()
    }

    /// Gives one direction of a link a weather of its own, or takes it away.
    pub fn set_link(&self, from: Address, to: Address, weather: Option<Weather>) {
        self.shared.lock().links.link(from, to).weather = weather;
    }
}
