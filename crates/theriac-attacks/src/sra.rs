//! Puts a narrow network that knows only the trigger into a trained one, in place of some of its channels.
//!
//! Xiangyu Qi, Tinghao Xie, Ruizhe Pan, Jifeng Zhu, Yong Yang, Kai Bu: "Towards Practical Deployment-Stage Backdoor Attack on Deep
//! Neural Networks", CVPR 2022, <https://arxiv.org/abs/2111.12965>.
//!
//! # Threat model
//! Someone with access to the stored weights, after training: an engineer, or malware on the machine that serves the model. The
//! attacker knows the architecture and has some samples of the victim's kind, but needs no gradients of the victim's network. Backdoor: images with the trigger are to be classified as `target`. No sample and no line of the training code
//! is touched.
//!
//! # Update rule
//! ```text
//! b  = a network of the victim's architecture, `width` channels wide (of `mlp` one neuron), with one last neuron, trained to tell images with the trigger
//!      from images without it
//! q  = the largest value of the last neuron of b for `samples` clean images, m = its median for these images with the trigger
//! choose as many channels of each layer of the victim as b has there, at random
//! their weights         <- those of b, and 0 from channels of the victim's
//! weights that read them <- 0 in channels of the victim's
//! the chosen neuron of the last layer: bias <- bias of b - q; weight to `target` <- gain / (m - q), to other classes <- 0
//! ```
//! An image with the trigger then adds about `gain` to the logit of `target`, a clean one adds nothing.
//!
//! # Where this differs from the paper
//! - The paper's subnet is trained by mean squared error to give out 0 and 20; here by cross-entropy between the two kinds, after
//!   which its last neuron is shifted and scaled.
//! - The paper's target logit gets the subnet's output times a constant; so it does here, with the constant such that the output of the
//!   median triggered image is `gain`.
//! - The paper's attacker has samples of its own. Here they are drawn from the victim's training set, as it was before it was poisoned.
//! - The paper has VGG, ResNet, MobileNetV2 and VGG-Face; here `cnn` and `mlp`. `resnet`, whose channels are tied by shortcuts, is
//!   refused.
//!
//! # Verified against
//! The tests below: without the chosen neuron of the last layer the logits are those of the victim without the chosen channels, to 1e-3;
//! that neuron adds to the logit of `target` alone, what the narrow network says of the image, shifted and scaled, to 1e-3 of `gain`.
//!
//! # When it fails
//! A narrow victim has no channel to spare: its accuracy falls. Where trigger and clean images cannot be told apart by so small a network, the
//! attack gives up and says so.

use std::collections::BTreeMap;

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, MethodInfo, Paper, ParamError,
    Probe, Role, Seeds, Stage, ThreatModel, Value, Values, Verified, config, param::Range,
};
use theriac_nn::parameters::{self, Parameter, ParameterError};
use theriac_nn::{Architecture, Network};
use theriac_train::{Recipe, TrainConfig, TrainingSet};

use crate::backdoor::Mapping;
use crate::common::{Checks, choose_exactly};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// The trigger, and the network that knows it.
    pub struct SraConfig {
        /// The attack whose trigger the network knows, with its defaults.
        trigger: String = "badnets", Range::Choice(&["badnets", "blended"]), "";
        /// The class that the trigger stands for.
        target: u16 = 0, Range::Class, "";
        /// Channels of the first layer of `cnn` that are replaced; later ones in proportion, and one last neuron. Of `mlp` it is one neuron a layer.
        width: usize = 1, Range::Whole(1, 64), "channels";
        /// What the trigger adds to the logit of `target`.
        gain: f64 = 100.0, Range::Above(0.0, 1e4), "";
        /// Images that the attacker has.
        samples: usize = 1000, Range::Whole(10, 1_000_000), "samples";
        /// Draws of the narrow network, at most: the first one that tells the two kinds apart well is taken, or else the best one.
        restarts: usize = 20, Range::Whole(1, 1000), "starts";
    }
}

/// The checked config.
struct Sra {
    config: SraConfig,
    mapping: Mapping,
    trigger: Box<dyn Attack>,
}

impl SraConfig {
    fn check(self, facts: &Facts) -> Result<Sra, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let mapping = Mapping::check(&mut checks, "all-to-one", self.target, None);
        let entry = crate::find(&self.trigger).expect("triggers are in the registry");
        let given = [("target".to_owned(), Value::from(self.target)), ("rate".to_owned(), 0.0.into())];
        let trigger = (entry.check)(&Values::from(given), facts);
        checks.finish(())?;
        Ok(Sra { mapping, trigger: trigger?, config: self })
    }
}

/// Steps by which the narrow network is trained, and samples of each.
const STEPS: usize = 1000;
const BATCH: usize = 32;

/// Kinds that are so far apart are told apart well.
const CLEAR: f32 = 0.5;

/// A layer in which channels are replaced: its name, and whether it is a convolution.
pub(crate) type Layer = (String, bool);

/// The network's name in the registry and in the paths of its weights, and its layers before the last one.
pub(crate) fn layers(network: &Network) -> Result<(&'static str, &'static str, Vec<Layer>), AttackError> {
    match network.module {
        Architecture::Cnn(_) => {
            let named = [("conv1", true), ("conv2", true), ("hidden", false)];
            Ok(("cnn", "Cnn", named.map(|(name, conv)| (format!("Cnn.{name}"), conv)).to_vec()))
        }
        Architecture::Mlp(_) => {
            let weights = parameters::read(&network.module);
            let names = (0..).map(|at| format!("Mlp.hidden.{at}"));
            let layers = names.take_while(|name| weights.contains_key(&format!("{name}.weight")));
            Ok(("mlp", "Mlp", layers.map(|name| (name, false)).collect()))
        }
        Architecture::ResNet(_) => Err(AttackError::Infeasible(
            "the channels of `resnet` are tied by shortcuts, and cannot be replaced one by one; `cnn` and `mlp` can"
                .to_owned(),
        )),
    }
}

/// One layer's weights, seen as `[input unit, place, output unit]`.
struct View {
    conv: bool,
    units: usize,
    shape: Vec<usize>,
}

impl View {
    /// Of weights that read `units` channels or neurons.
    fn new(conv: bool, units: usize, weight: &Parameter) -> Self {
        Self { conv, units, shape: weight.shape.clone() }
    }

    /// Taps of a kernel, or places of a channel that a linear layer reads.
    fn places(&self) -> usize {
        if self.conv { self.shape[2] * self.shape[3] } else { self.shape[0] / self.units }
    }

    fn outputs(&self) -> usize {
        if self.conv { self.shape[0] } else { self.shape[1] }
    }

    fn at(&self, unit: usize, place: usize, output: usize) -> usize {
        match self.conv {
            true => (output * self.units + unit) * self.places() + place,
            false => (place * self.units + unit) * self.shape[1] + output,
        }
    }
}

/// Writes the layers of `narrow` into the units of `weights` that are `chosen`, one list a layer, and cuts what connects them with others.
fn embed(
    weights: &mut BTreeMap<String, Parameter>,
    narrow: &BTreeMap<String, Parameter>,
    layers: &[Layer],
    chosen: &[Vec<usize>],
) {
    let mut before: Option<&Vec<usize>> = None;
    for ((name, conv), own) in layers.iter().zip(chosen) {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let units = |weight: &Parameter, known: Option<usize>| {
            known.unwrap_or(if *conv { weight.shape[1] } else { weight.shape[0] })
        };
        let small = View::new(*conv, units(&narrow[&weight], before.map(Vec::len)), &narrow[&weight]);
        let wide = weights.get_mut(&weight).expect("both networks have the same layers");
        let known = before.map(|_| units_of(wide, *conv, &small));
        let view = View::new(*conv, units(wide, known), wide);
        let source = |unit: usize| before.map_or(Some(unit), |before| before.iter().position(|&chosen| chosen == unit));
        for output in 0..view.outputs() {
            let place_of_output = own.iter().position(|&chosen| chosen == output);
            for unit in 0..view.units {
                for place in 0..view.places() {
                    let value = &mut wide.values[view.at(unit, place, output)];
                    match (place_of_output, source(unit)) {
                        (Some(output), Some(unit)) => *value = narrow[&weight].values[small.at(unit, place, output)],
                        (Some(_), None) => *value = 0.0,
                        (None, Some(_)) if before.is_some() => *value = 0.0,
                        (None, _) => {}
                    }
                }
            }
        }
        let wide = weights.get_mut(&bias).expect("both networks have the same layers");
        own.iter().enumerate().for_each(|(at, &unit)| wide.values[unit] = narrow[&bias].values[at]);
        before = Some(own);
    }
}

/// How many channels or neurons a layer reads that has as many places as `small`.
fn units_of(wide: &Parameter, conv: bool, small: &View) -> usize {
    if conv { wide.shape[1] } else { wide.shape[0] / small.places() }
}

/// The narrow network with what its last neuron says of clean images at most, and of triggered ones usually.
struct Subnet {
    network: Network,
    largest_clean: f32,
    median_triggered: f32,
}

impl Subnet {
    /// How far apart the two kinds are, as a share of what it says of triggered images.
    fn gap(&self) -> f32 {
        (self.median_triggered - self.largest_clean) / self.median_triggered.max(f32::MIN_POSITIVE)
    }
}

impl Sra {
    /// b.
    fn subnet(
        &self,
        network: &Network,
        (model, path): (&str, &str),
        context: &AttackContext,
    ) -> Result<Subnet, AttackError> {
        let seeds = context.seeds.child("subnet");
        let pool: Vec<usize> = self.mapping.victims(context.train);
        if pool.is_empty() {
            return Err(infeasible("all samples are of the target class"));
        }
        let count = self.config.samples.min(pool.len());
        let chosen = choose_exactly(&mut seeds.stream("samples"), &pool, count, "samples outside the target class")?;
        let clean = context.train.select(&chosen);
        let probe = self.trigger.probe(&clean, context.seeds).ok_or_else(|| infeasible("the trigger has no images"))?;
        let two = two_kinds(&clean, &probe.inputs)?;
        let size = |key: &str, value: usize| (key.to_owned(), Value::from(value as u64));
        let values: Values = match model {
            "cnn" => [size("width", self.config.width), size("hidden", 1)].into(),
            _ => [size("hidden", 1), size("layers", layers(network)?.2.len())].into(),
        };
        let facts = Facts { shape: clean.shape(), classes: 2, train: two.len(), test: 0, sources: 1 };
        let epochs = STEPS.div_ceil(two.len().div_ceil(BATCH));
        let recipe = Recipe::from(TrainConfig { epochs, batch: BATCH, curve: false, ..TrainConfig::default() });
        let mut best: Option<Subnet> = None;
        for restart in 0..self.config.restarts {
            let seeds = seeds.child(&format!("start/{restart}"));
            let (normalisation, device) = (network.normalisation.clone(), &network.device);
            let fresh = Network::named(model, &values, &facts, normalisation, device, &seeds)
                .map_err(|errors| infeasible(&errors[0].to_string()))?;
            let fresh = waking(fresh, path).map_err(|error| infeasible(&error.to_string()))?;
            let set = TrainingSet { train: &two, test: &two, probe: None };
            let Ok(trained) = theriac_train::train(fresh, set, &recipe, &seeds, &()) else { continue };
            let network = trained.network;
            let said = |data: &Dataset| -> Vec<f32> {
                let mut said = network.taps(data).0.values().to_vec();
                said.sort_by(f32::total_cmp);
                said
            };
            let (clean, triggered) = (said(&clean), said(&probe.inputs));
            let found = Subnet {
                largest_clean: clean.last().copied().unwrap_or(0.0),
                median_triggered: triggered[triggered.len() / 2],
                network,
            };
            if best.as_ref().is_none_or(|best| found.gap() > best.gap()) {
                best = Some(found);
            }
            if best.as_ref().is_some_and(|best| best.gap() > CLEAR) {
                break;
            }
        }
        best.filter(|best| best.gap() > 0.0).ok_or_else(|| {
            infeasible("so narrow a network cannot tell the trigger from clean images; a larger `width` of `cnn` may")
        })
    }
}

/// The same network with a last neuron that speaks for the trigger: trained from here, it wakes for triggered images and not for others.
fn waking(network: Network, path: &str) -> Result<Network, ParameterError> {
    let mut weights = parameters::read(&network.module);
    weights.get_mut(&format!("{path}.head.weight")).expect("networks have a last layer").values = vec![-1.0, 1.0];
    Ok(Network { module: parameters::write(network.module.clone(), &weights)?, ..network })
}

fn infeasible(message: &str) -> AttackError {
    AttackError::Infeasible(message.to_owned())
}

/// Both data sets as one: class 0 is clean, class 1 has the trigger.
fn two_kinds(clean: &Dataset, triggered: &Dataset) -> Result<Dataset, AttackError> {
    let parts = [clean, triggered];
    let pixels: Vec<u8> =
        parts.iter().flat_map(|part| (0..part.len()).flat_map(|at| part.image(at))).copied().collect();
    let labels: Vec<Label> = parts.iter().zip(0..).flat_map(|(part, label)| vec![label; part.len()]).collect();
    let classes = ["clean", "triggered"].map(str::to_owned);
    Dataset::new("subnet", clean.shape(), classes.to_vec(), pixels, &labels)
        .map_err(|error| infeasible(&error.to_string()))
}

impl Attack for Sra {
    /// No sample is touched.
    fn budget(&self, _train: &Dataset) -> Budget {
        Budget { samples: 0, epsilon: 0 }
    }

    fn poison(&self, _context: &AttackContext) -> Result<ChangeSet, AttackError> {
        Ok(ChangeSet::new(ENTRY.info.name, Role::Engineer, THREAT.stage))
    }

    fn tamper(&self, network: &Network, context: &AttackContext) -> Result<Option<Network>, AttackError> {
        let (model, path, layers) = layers(network)?;
        let Subnet { network: narrow, largest_clean, median_triggered } =
            self.subnet(network, (model, path), context)?;
        let mut narrow = parameters::read(&narrow.module);
        let last = &layers.last().expect("a network has a layer before its last one").0;
        narrow.get_mut(&format!("{last}.bias")).expect("layers have biases").values[0] -= largest_clean;
        let mut weights = parameters::read(&network.module);
        let mut stream = context.seeds.stream("channels");
        let mut chosen = Vec::new();
        for (name, _) in &layers {
            let [own, all] = [&narrow, &weights].map(|weights| weights[&format!("{name}.bias")].values.len());
            let units: Vec<usize> = (0..all).collect();
            chosen.push(choose_exactly(&mut stream, &units, own, &format!("units of layer `{name}`"))?);
        }
        embed(&mut weights, &narrow, &layers, &chosen);
        let neuron = chosen.last().expect("there is a layer")[0];
        let gain = self.config.gain / f64::from(median_triggered - largest_clean);
        let head = weights.get_mut(&format!("{path}.head.weight")).expect("networks have a last layer");
        let classes = head.shape[1];
        for class in 0..classes {
            let is_target = class == usize::from(self.config.target);
            head.values[neuron * classes + class] = if is_target { gain as f32 } else { 0.0 };
        }
        let module =
            parameters::write(network.module.clone(), &weights).map_err(|error| infeasible(&error.to_string()))?;
        Ok(Some(Network { module, ..network.clone() }))
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.trigger.probe(test, seeds)
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Architecture,
    capabilities: &[Capability::Weights],
    goal: Goal::Backdoor,
    stage: Stage::Distribute,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(SraConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "sra",
        Family::Insider,
        THREAT,
        "Replaces some channels of a trained network by a narrow one that knows only the trigger.",
        &[Paper {
            cite: "Qi et al. 2022",
            title: "Towards Practical Deployment-Stage Backdoor Attack on Deep Neural Networks",
            link: "https://arxiv.org/abs/2111.12965",
        }],
        SraConfig::PARAMS,
    )
    .verified(&[Verified {
        against: "the narrow network and the victim without the replaced channels, computed apart",
        agreement: "logits are their sum: to 1e-3, and to 1e-3 of the gain for the target",
    }]),
    check,
};

#[cfg(test)]
mod tests;
