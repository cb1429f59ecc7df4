use std::fmt;

use crate::{Description, Error};

/// What became of each source of a [`Chain`](crate::Chain), in order. `Display` has a line for each.
#[derive(Clone, Debug)]
pub struct ChainReport {
    steps: Vec<ChainStep>,
}

/// What became of one source of a [`Chain`](crate::Chain).
#[derive(Clone, Debug)]
pub struct ChainStep {
    name: String,
    settings: Vec<(String, String)>,
    status: StepStatus,
}

/// What a [`Chain`](crate::Chain) made of a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StepStatus {
    /// It is used, and will be.
    Chosen,
    /// It is not configured. The error says what is missing, and whether it is
    /// [set but empty](Error::is_set_but_empty).
    Skipped(Error),
    /// It is configured in part or wrongly. The chain does not go past it.
    Broken(Error),
    /// It is configured as well, and not used: one of higher rank is.
    Shadowed,
    /// The search ended before it, and it cannot tell without a fetch whether it is configured.
    NotAsked,
}

impl ChainReport {
    pub(crate) fn new(steps: Vec<ChainStep>) -> Self {
        Self { steps }
    }

    /// The sources, from the highest rank to the lowest.
    #[must_use]
    pub fn steps(&self) -> &[ChainStep] {
        &self.steps
    }

    /// The source that is used.
    #[must_use]
    pub fn chosen(&self) -> Option<&ChainStep> {
        self.steps
            .iter()
            .find(|step| matches!(step.status, StepStatus::Chosen))
    }

    /// The sources that are configured and not used.
    pub fn shadowed(&self) -> impl Iterator<Item = &ChainStep> {
        self.steps
            .iter()
            .filter(|step| matches!(step.status, StepStatus::Shadowed))
    }

    /// Why each source that was passed over was, in one line.
    pub(crate) fn reasons(&self) -> String {
        let reason = |step: &ChainStep| Some(format!("{} ({})", step.name, step.why()?));
        let reasons: Vec<_> = self.steps.iter().filter_map(reason).collect();
        reasons.join(", ")
    }
}

impl ChainStep {
    pub(crate) fn new(description: &Description, status: StepStatus) -> Self {
        Self {
            name: description.name().to_owned(),
            settings: description
                .settings()
                .map(|(setting, from)| (setting.to_owned(), from.to_owned()))
                .collect(),
            status,
        }
    }

    /// The name of the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Each setting of the source and where it comes from.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings
            .iter()
            .map(|(setting, from)| (&**setting, &**from))
    }

    /// What the chain made of it.
    #[must_use]
    pub fn status(&self) -> &StepStatus {
        &self.status
    }

    /// What the source's error says, without its name.
    fn why(&self) -> Option<String> {
        let (StepStatus::Skipped(error) | StepStatus::Broken(error)) = &self.status else {
            return None;
        };
        let text = error.to_string();
        let name = error.source_name().unwrap_or_default();
        let rest = text
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(": "));
        Some(rest.unwrap_or(&text).to_owned())
    }
}

impl StepStatus {
    /// The word used in reports.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Skipped(error) if error.is_set_but_empty() => "set but empty",
            Self::Skipped(_) => "not configured",
            Self::Broken(_) => "broken",
            Self::Shadowed => "shadowed",
            Self::NotAsked => "not asked",
        }
    }
}

impl fmt::Display for ChainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&ChainStep) -> &str| {
            let widths = self.steps.iter().map(|step| text(step).chars().count());
            widths.max().unwrap_or(0)
        };
        let names = width(|step| &step.name);
        let statuses = width(|step| step.status.as_str());
        for (i, step) in self.steps.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            let status = step.status.as_str();
            let line = format!("{:names$}  {status:statuses$}  {step}", step.name);
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

/// The details: why it was passed over, or else where its settings come from.
impl fmt::Display for ChainStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = self.why() {
            return f.write_str(&why);
        }
        for (i, (setting, from)) in self.settings().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{setting} from {from}")?;
        }
        Ok(())
    }
}
