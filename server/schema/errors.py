"""The shape of every error, the same as OpenAI's."""

from typing import Literal

from pydantic import BaseModel, Field

CONTENT_POLICY_VIOLATION = "content_policy_violation"
"""OpenAI's code, with status 400, for a request whose words or whose pictures a check refuses."""

ErrorType = Literal["invalid_request_error", "server_error", "service_unavailable_error", "rate_limit_error"]


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str = Field(
        description="For people.", examples=["images.steps: Input should be less than or equal to 1000"]
    )
    type: ErrorType = Field(description="Whose fault it is.")
    param: str | None = Field(default=None, description="The field at fault.", examples=["images.steps"])
    code: str | None = Field(default=None, description="Short and stable, for programs.", examples=["invalid_value"])


class ErrorResponse(BaseModel):
    """The body of every response that is not 2xx."""

    error: ErrorBody


class APIError(Exception):
    """A request that ends with an error response.

    Attributes:
        status: HTTP status.
        error: the body.
        headers: added to the response, such as ``Retry-After``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: ErrorType = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = ErrorBody(message=message, type=type, param=param, code=code)
        self.headers = headers


def invalid_value(param: str, message: str, code: str = "invalid_value") -> APIError:
    """The error of a field whose value can't be served."""
    return APIError(400, f"{param}: {message}", param=param, code=code)
