# What the names of __init__.py are, for type checkers and editors: there they are resolved on use.
from alexnet_tf.inputs import decode_predictions as decode_predictions
from alexnet_tf.inputs import preprocess_input as preprocess_input
from alexnet_tf.models import AlexNet as AlexNet
from alexnet_tf.models import AlexNetOWT as AlexNetOWT
from alexnet_tf.models import CaffeNet as CaffeNet
from alexnet_tf.models import CifarNet as CifarNet
from alexnet_tf.models import LeNet5 as LeNet5
from alexnet_tf.models import build_model as build_model
from alexnet_tf.models import list_models as list_models
from alexnet_tf.models import load_model as load_model

__version__: str
