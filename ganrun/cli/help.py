"""`ganrun --help`: usage, examples and the choices of each group."""

from ganrun.config.groups import CONF
from ganrun.version import __version__

GROUPS = {
    "model": "the two networks",
    "loss": "what they minimise",
    "dataset": "the real images",
    "tricks": "a list of stabilisation tricks",
    "optim": "the optimisers",
    "updates": "which network is updated when",
    "experiment": "complete recipes",
}

TEXT = """ganrun {version}: trains generative adversarial networks from composable configuration.

usage:  ganrun [GROUP=CHOICE] [KEY=VALUE] ...      train
        ganrun resume RUN [KEY=VALUE] ...          go on where a run stopped
        ganrun -m KEY=VALUE,VALUE ...              one run for each combination
        ganrun export RUN format=FORMAT out=FOLDER safetensors, onnx or torch_export, with a model card
        ganrun explain [GROUP=CHOICE] ...          what would train: networks, tricks, terms; trains nothing
        ganrun check [GROUP=CHOICE] ...            what is wrong with data, networks or rates; trains nothing
        ganrun speed [GROUP=CHOICE] ...            images/s, memory and where a step goes, in 30 s; keeps nothing
        ganrun sample RUN [count=64] ...           new samples of a run: a picture, an array, or PNG files
        ganrun sample RUN images=FOLDER ...        these images translated, by a run of CycleGAN or pix2pix
        ganrun walk RUN [out=walk.gif] ...         a walk between noises, between classes, or along a code
        ganrun evaluate RUN|FOLDER|ARRAY ...       how far samples, or pictures of any program, are from held-out reals
        ganrun diagnose RUN                        what a run shows, what it means and what to try
        ganrun rescue RUN [tries=3]                the run again with what might help, until one does
        ganrun report FOLDER ... [out=report.html]  one page that ranks and compares runs, of a sweep for instance
        ganrun list [tricks|models|losses|...]     every choice in a line, with its source

examples:
  ganrun                                           a DCGAN on handwritten digits, a few minutes on a CPU
  ganrun 'tricks=[soft_labels,flip]'               the same with two tricks (the quotes keep the shell away)
  ganrun dataset=folder dataset.path=my_photos dataset.resolution=64
  ganrun loss=wasserstein model.discriminator.norm=layer 'tricks=[gp,n_critic,ema]' steps=10000
  ganrun -m 'tricks=[],[soft_labels],[soft_labels,flip]' seed=1,2

groups:
{groups}

often set:  steps  batch  seed  name  dataset.classes=[3,7]  engine.device=cpu  log.samples=100
            tricks.soft_labels.real=[0.8,1.0]  '~tricks.ema'  hydra.run.dir=FOLDER
every setting with its value:  ganrun --cfg job      (also with choices: ganrun model=mlp --cfg job)

Runs go to outputs/DATE/TIME-XXXX/ below this folder, sweeps to sweeps/. Watch with: tensorboard --logdir outputs"""


def help_text() -> str:
    """The help, with the choices that are there now."""
    lines = []
    for group, meaning in GROUPS.items():
        choices = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        lines += _wrapped(f"  {group:<11} {meaning}: ", choices)
    return TEXT.format(version=__version__, groups="\n".join(lines))


def _wrapped(head: str, words: list[str], width: int = 110) -> list[str]:
    lines = [head]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append(" " * 14)
        lines[-1] += f"{word}  "
    return [line.rstrip() for line in lines]
