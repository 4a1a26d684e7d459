import os

SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = os.environ["SUPERSET_DATABASE_URI"]
# Charts ask the Thrift Server, which a first query may keep waiting.
SUPERSET_WEBSERVER_TIMEOUT = 300
# Filters reach panels through other tables.
FEATURE_FLAGS = {"ENABLE_TEMPLATE_PROCESSING": True}
