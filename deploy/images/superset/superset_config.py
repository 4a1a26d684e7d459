import os

SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = os.environ["SUPERSET_DATABASE_URI"]
# Charts ask the Thrift Server, which a first query may keep waiting.
SUPERSET_WEBSERVER_TIMEOUT = 300
