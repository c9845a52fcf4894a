"""``python -m load_tests.service.scripted_server``: the real server over stand-ins, with the environment's settings."""

from load_tests.service.stand_ins import open_stand_ins
from server.app import create_app
from server.http_server import HTTPServer
from server.listener import listen
from server.observe.logging import configure_logging
from server.settings import Settings


def main() -> None:
    """Serve until told to stop."""
    settings = Settings()
    configure_logging(settings.log.level, settings.log.format)
    app = create_app(settings, open_stand_ins)
    listener = listen(settings.server.host, settings.server.port)
    HTTPServer(app, app.state.service, on_ready=print).run([listener])


if __name__ == "__main__":
    main()
