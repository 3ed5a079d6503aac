# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FaceQnet (v0, v1): the card."""

from .card import MethodCard
from .words import REGRESSION


CARD = MethodCard(
    name="faceqnet",
    title="FaceQnet (v0, v1)",
    paper="Hernandez-Ortega et al., FaceQnet: Quality Assessment for Face Recognition based on Deep Learning, ICB "
    "2019 (v0); Biometric Quality: Review and Application to Face Recognition with FaceQnet, 2020 (v1)",
    formula="dense layers on the mean of the last feature map of a ResNet-50 trained on VGGFace2, clipped to "
    "[0, 1]; labels are FaceNet's similarities to an ICAO-compliant image of the person",
    input="224x224, BGR, 0 to 255, nothing subtracted; other sizes are resized",
    raw_range="[0, 1] by clipping; the term `unclipped` has the number before",
    code_license="none stated; the authors allow non-profit research only (issue 11 of the repository)",
    weights_license="none stated; the authors allow non-profit research only (issue 11 of the repository)",
    weights_source="FaceQnet.h5 (v0) and FaceQnet_v1.h5, released at https://github.com/uam-biometrics/FaceQnet; "
    "`weights` takes such a file as it is (with h5py: `pip install 'diffiqa-hf[keras]'`)",
    checked_against="the network in NumPy and float64 from a Keras file that the test writes "
    "(tests/conversion/dialects/test_faceqnet.py); the published files were not at hand: the trunk's names are "
    "those of Keras' VGGFace2 ResNet-50, head, activations and epsilon are read off the file",
    notes=(
        "pixels go in as OpenCV reads them, BGR from 0 to 255: RGB, or a mean subtracted as VGGFace2's own "
        "network has it, gives other numbers without any error",
        "it was trained on loose crops (MTCNN's box); the authors ask for such, here it gets the tighter ArcFace "
        "crop, as in DifFIQA's paper",
        "all faces clipped to 0 or to 1 are tied",
        "the training code is not public (issue 7 of the repository)",
        "to compare with: https://github.com/javier-hernandezo/FaceQnet has the authors' scores of 15,131 crops "
        "of LFW (src/scores_quality_LFW.txt; the crops are MTCNN's, the version of FaceQnet is not said), and of "
        "VGGFace2, BioSecure and CyberExtruder; those of LFW are in docs/results/lfw",
    ),
    training=(
        "`training/train_quality.py --recipe faceqnet`",
        "the paper fine-tunes a ResNet-50 trained on VGGFace2: `--model_name_or_path` with keras-vggface's file, "
        "and `--freeze_backbone` for the dense layers alone; without it the network is new",
        "optimiser, rate, batch, epochs, loss (mean squared error), the widths of the head and the clipping of "
        "the gradient's norm at 5 are ours",
        "the paper chooses the reference of each person by a framework (BioLab-ICAO) that is not public: "
        "`--reference_column` takes a choice, without it the face nearest the person's mean embedding is taken",
        "the similarities are those of the FR model that is given, the paper's are FaceNet's",
    ),
    dialect="faceqnet",
    networks=("FaceQnetForFaceQuality",),
    **{**REGRESSION, "method": "faceqnet:FaceQnetMethod"},
)

__all__ = ["CARD"]
