"""The page on Ray Serve with a model of a set pace; see ``paced``."""

from deploy.ray_serve import application
from tests.helpers.paced import create_app

app = application(create_app)
