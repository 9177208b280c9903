"""torchvision's AlexNet with few maps, here and in PyTorch: for what does not depend on size."""

import dataclasses

import pytest

MAPS, UNITS, SIDE, CLASSES = (6, 8, 8, 6, 6), 16, 95, 10


@pytest.fixture(scope="session")
def small_owt():
    """The name of the variant: images of 95 pixels, last maps of 2x2."""
    from alexnet_tf.models import alexnet, catalog
    from alexnet_tf.models.spec import Conv, Dense

    maps = iter(MAPS)

    def narrow(entry):
        if isinstance(entry, Conv):
            return dataclasses.replace(entry, filters=next(maps))
        if isinstance(entry, Dense) and entry.units:
            return dataclasses.replace(entry, units=UNITS)
        return entry

    source = alexnet.ALEXNET_OWT
    variant = dataclasses.replace(
        source,
        name="small_owt",
        crop_size=SIDE,
        classes=CLASSES,
        features=tuple(map(narrow, source.features)),
        top=tuple(map(narrow, source.top)),
    )
    catalog.add_variant(variant)
    return variant.name


@pytest.fixture(scope="session")
def small_torch():
    """The same network in PyTorch, with weights that keep the signal visible."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    a, b, c, d, e = MAPS

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                *(nn.Conv2d(3, a, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
                *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
                *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
            )
            self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
            self.classifier = nn.Sequential(
                *(nn.Dropout(), nn.Linear(4 * e, UNITS), nn.ReLU()),
                *(nn.Dropout(), nn.Linear(UNITS, UNITS), nn.ReLU()),
                nn.Linear(UNITS, CLASSES),
            )

        def forward(self, x):
            return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    torch.manual_seed(4)
    network = Small().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.5)
    return network
